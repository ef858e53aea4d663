#!/usr/bin/env perl
# What it costs to bring a changed seat to a viewer, beside the least that it can cost and beside others that do the like:
# the table of doc/performance.md.
#
#	perl bench/table.pl			all of it: some 20 minutes on two cores
#	perl bench/table.pl --short		two rows: a minute; fails when a ratio is more than twice what the document says, in three rounds out of three
#	perl bench/table.pl --rounds 3 --seconds 10 --rows many,one --servers fcgi,seatcast
#	perl bench/table.pl --svg doc/performance.svg		draws the rows, too
#	perl bench/table.pl --before ../other			also another tree of seatcast, built in its build/, in the same rounds
#
# Rows	many, more: 1,000 and 5,000 viewers of 10 blocks, 100 changed seats a second; one: 2,000 viewers of a block, 200 seats
#	a second; wide: 60 blocks with 10 viewers each, 100 seats a second; arrive: 2,000 at once; idle: 5,000, nothing changes
# Servers	tcp: bench/floor speaks HTTP itself; fcgi: bench/floor behind lighttpd; nchan, node: where they are installed;
#	seatcast: behind lighttpd, with its sample; direct: seatcast alone, viewers speak FastCGI; shared: with --max-groups 1,
#	so that one loop, the match's, carries all blocks but one
#
# Figures are microseconds of processor time (the kernel's schedstat of the processes in question, viewers not counted)
# for each event that reached a viewer: the application's, the web server's, the database's (its writer included), and
# all of it as a ratio to the FastCGI floor of the same round.  Median of the rounds, and from the least to the most.
# A result counts only if no viewer was closed and all viewers of a block had the same events in the same order.
# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use Cwd qw(abs_path);
use FindBin;
use lib "$FindBin::Bin/../t/lib", $FindBin::Bin;
use Getopt::Long;
use Time::HiRes qw(time sleep);
use Bench;
use Deploy;
use Scenario;

my ($short, $rounds, $seconds, $rows, $servers, $svg, $before);
GetOptions(short => \$short, 'rounds=i' => \$rounds, 'seconds=i' => \$seconds, 'rows=s' => \$rows, 'servers=s' => \$servers, 'svg=s' => \$svg,
    'before=s' => \$before)
    or die "see the first lines of $0\n";
$rounds //= 3;
$seconds //= $short ? 5 : 10;
Test::More->builder->no_ending(1);
$| = 1;

my %row = (		# viewers, blocks, changed seats a second
	many => [1000, 10, 100], more => [5000, 10, 100], one => [2000, 1, 200], wide => [600, 60, 100],
	arrive => [2000, 10, 0], idle => [5000, 10, 0],
);
my @rows = split /,/, $rows // ($short ? 'one,wide' : 'many,more,one,wide,arrive,idle');
my @servers = split /,/, $servers // ($short ? 'fcgi,seatcast' : 'tcp,fcgi,nchan,node,seatcast');
push @servers, 'before' if defined $before;

# ---- the servers: each is started for a row, and says where viewers go and which processes are its parts ----

sub start_tcp {
	my ($row) = @_;
	my $stage = Stage->new;
	my $port = $stage->free_port;
	floor($stage, 'http', $port, @$row[1, 2]);
	return { stage => $stage, how => 'http', where => $port, app => ['floor'], publishes => 1 };
}

sub start_fcgi {
	my ($row) = @_;
	my $stage = Stage->new;
	floor($stage, 'fcgi', "$stage->{dir}/fcgi.sock", @$row[1, 2]);
	$stage->start_lighttpd;
	return { stage => $stage, how => 'http', where => $stage->{port}, app => ['floor'], web => ['lighttpd'], publishes => 1 };
}

# nginx with nchan: ten viewers' worth of channels, and a publisher here that posts each block's frame once a second.
sub start_nchan {
	my ($row) = @_;
	my $module = (grep { -e } glob '/usr/{lib,share}/nginx/modules/ngx_nchan_module.so')[0] // return;
	my $stage = Stage->new;
	my $port = $stage->free_port;
	my ($most) = Stage::slurp('/proc/self/limits') =~ /^Max open files\s+\d+\s+(\d+)/m;
	Deploy::put($stage, 'nginx.conf', <<~CONF);
		load_module $module;
		daemon off; worker_processes 1; worker_rlimit_nofile $most; pid $stage->{dir}/nginx.pid; error_log $stage->{dir}/log/error.log;
		events { worker_connections @{[int($most / 2)]}; }
		http { access_log off; nchan_message_buffer_length 2;
		@{[map { "${_}_temp_path $stage->{dir}/nginx-$_;\n" } qw(client_body proxy fastcgi uwsgi scgi)]}
		server { listen 127.0.0.1:$port backlog=4096;
			location ~ ^/pub/(\\d+)\$ { nchan_publisher; nchan_channel_id \$1; }
			location ~ /blocks/(\\d+)/ { nchan_subscriber eventsource; nchan_channel_id \$1; } } }
		CONF
	$stage->spawn('nginx', [have('nginx') // '/usr/sbin/nginx', '-p', $stage->{dir}, '-c', "$stage->{dir}/nginx.conf"]);
	$stage->wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) || $stage->ended('nginx') });
	return if $stage->ended('nginx');
	return { stage => $stage, how => 'http', where => $port, app => ['nginx'], bare => 1, publish => publisher($port, $row) };
}

# Each call posts what is due: a block's frame once a second, as one message of as many data lines.
sub publisher {
	my ($port, $row) = @_;
	my (undef, $blocks, $changes) = @$row;
	return undef if !$changes;
	my $per = events_each($blocks, $changes);
	my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die "nchan: $!\n";
	my ($began, $turn) = (time, 0);
	return sub {
		while (time >= $began + $turn / $blocks) {
			my $block = $FIRST + $turn % $blocks;
			for (1 .. $per) {
				my $m = sprintf '{"status":200,"data":{"seatId":%d,"status":"HOLD"}}', $turn * 10 + $_;
				print $sock "POST /pub/$block HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($m) . "\r\n\r\n$m";
			}
			$turn++;
		}
		$sock->blocking(0);
		1 while sysread $sock, my $answer, 65536;
		$sock->blocking(1);
	};
}

# A small server of the kind that people write in Node: an array of responses for each block.
sub start_node {
	my ($row) = @_;
	have('node') or return;
	my $stage = Stage->new;
	my $port = $stage->free_port;
	my (undef, $blocks, $changes) = @$row;
	$stage->spawn('node', [have('node'), "$FindBin::Bin/node-server.js", $port, $blocks, events_each($blocks, $changes)]);
	$stage->wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) || $stage->ended('node') });
	return { stage => $stage, how => 'http', where => $port, app => ['node'], publishes => 1 };
}

sub start_seatcast {
	my ($row, $direct, $groups) = @_;
	my ($count, $blocks, $changes) = @$row;
	my $s = Scenario->new(demo => 1, lighttpd => $direct ? 0 : 1, poll_interval => '1s', workers => 2, max_streams => 19000, max_groups => $groups // 100,
		heartbeat => '15s', pg => { log_statement => 'none' });
	my $stage = $s->{stage};
	return { scenario => $s, stage => $stage, how => $direct ? 'fcgi' : 'http', where => $direct ? $stage->{listen} : $stage->{port},
		app => ['seatcast'], $direct ? () : (web => ['lighttpd']), db => ['postgresql'],
		publish => buyers($s, $blocks, $changes) };
}

# The other tree's program, SQL and sample; viewers are ours.
sub start_before {
	my ($row) = @_;
	my $t = do { local @ENV{qw(top_srcdir top_builddir)} = ($before, "$before/build"); start_seatcast($row) };
	$t->{stage}{build} = abs_path($ENV{top_builddir} // "$FindBin::Bin/../build");
	return $t;
}

my %start = (tcp => \&start_tcp, fcgi => \&start_fcgi, nchan => \&start_nchan, node => \&start_node, seatcast => \&start_seatcast,
	direct => sub { start_seatcast($_[0], 1) }, shared => sub { start_seatcast($_[0], 0, 1) },
	before => \&start_before);

# ---- one measurement ----

sub measure {
	my ($name, $server) = @_;
	my ($count, $blocks, $changes) = @{$row{$name}};
	my $t = $start{$server}->($row{$name}) // return;
	my $stage = $t->{stage};
	my @parts = grep { $t->{$_} } qw(app web db);
	my $used = sub { return { map { $_ => cpu(family($stage, @{$t->{$_}})) } @parts } };
	my $before = $used->();
	my $v = viewers($stage, $t->{how}, $t->{where}, $count, $blocks);
	my (undef, $ms, $lost) = say_to($v, $t->{bare} ? 'bare' : 'open');
	my $after = $used->();
	my %r = (lost => $lost, ms => $ms, odd => 0);
	if ($name eq 'arrive') {
		$r{$_} = ($after->{$_} - $before->{$_}) / $count for @parts;
	} else {
		my $run = sub { my $end = time + $_[0]; while (time < $end) { $t->{publish}->() if $t->{publish}; sleep 0.02 } };
		$run->(1.5);
		settled($v) if $t->{publish};
		say_to($v, 'mark');
		$run->(1.5);			# all are under way again: what is counted below is a piece of something steady
		my ($t0, $began, $already) = (time, $used->(), (say_to($v, 'report'))[1]);
		$run->(($name eq 'idle' ? 3 : 1) * $seconds);
		my ($t1, $ended, $events) = (time, $used->(), (say_to($v, 'report'))[1] - $already);
		my (undef, undef, $bytes, $odd, $gone, $p50, $p99) = $t->{publish} ? settled($v) : say_to($v, 'report');	# who publishes by itself never ends
		@r{qw(events bytes odd lost p50 p99)} = ($events, $bytes, $t->{publishes} ? 0 : $odd, $gone, $p50, $p99);
		my $per = $name eq 'idle' ? $count * ($t1 - $t0) : $events || 1;
		$r{$_} = ($ended->{$_} - $began->{$_}) / $per for @parts;
	}
	say_to($v, 'close');
	end_of($v);
	$r{all} = 0;
	$r{all} += $r{$_} for @parts;
	delete $stage->{floor_stdin};
	$t->{scenario} ? $stage->strike : do { $stage->stop($_, 'KILL') for keys %{$stage->{proc}}; $stage->strike };
	return \%r;
}

printf "%s; %d rounds of %d s\n\n", machine(), $rounds, $seconds;
# What the document says, between <!-- ratios and -->: "one seatcast 1.2".
my ($text) = Stage::slurp("$FindBin::Bin/../doc/performance.md") =~ /<!-- ratios\n(.*?)-->/s;
my %said = ($text // '') =~ /^(\w+ \w+) ([\d.]+)$/mg;
sub too_dear { my ($what, $ratio) = @_; return defined $said{$what} && $ratio > 2 * $said{$what} }

my ($bad, %least, @drawn) = (0);
for my $name (@rows) {
	my (%seen, %floor);
	for my $round (1 .. $rounds) {
		my $wrong = 0;
		for my $server (@servers) {
			my $r = measure($name, $server) // next;
			if ($r->{lost} || $r->{odd}) {
				$wrong++;
				print "! $name, $server: $r->{lost} viewers closed, $r->{odd} with other events than the rest of their block\n";
			}
			$floor{$round} = $r->{all} if $server eq 'fcgi';
			push @{$seen{$server}{$_}}, $r->{$_} for grep { defined $r->{$_} } qw(app web db all ms p50 p99);
			next if !$floor{$round};
			push @{$seen{$server}{ratio}}, my $ratio = $r->{all} / $floor{$round};
			$least{"$name $server"} = $ratio if $ratio < ($least{"$name $server"} // 9e9);
			$wrong++ if $short && too_dear("$name $server", $ratio);
		}
		$bad += $wrong if !$short || $round == $rounds;		# the short form believes one good round of three
		last if $short && !$wrong;
	}
	my ($count, $blocks, $changes) = @{$row{$name}};
	my $unit = $name eq 'arrive' ? 'us a stream' : $name eq 'idle' ? 'us per viewer and second' : 'us an event';
	print "### $name: $count viewers, $blocks blocks, $changes changed seats a second ($unit)\n\n";
	print "| server | application | web server | database | all | ratio to the FastCGI floor | ", $name eq 'arrive' ? 'ms to the last init' : 'last viewer later than first, p50 / p99 ms', " |\n|---|---|---|---|---|---|---|\n";
	for my $server (grep { $seen{$_} } @servers) {
		my $s = $seen{$server};
		printf "| %s | %s | %s | %s | %s | %s | %s |\n", $server, (map { $s->{$_} ? spread(@{$s->{$_}}) : '' } qw(app web db all ratio)),
		    $name eq 'arrive' ? spread(@{$s->{ms}}) : sprintf '%.1f / %.1f', map { median(@$_) / 1000 } @$s{qw(p50 p99)};
		push @drawn, { name => $name, server => $server, unit => $unit, map { $_ => $s->{$_} ? median(@{$s->{$_}}) : 0 } qw(app web db) };
	}
	print "\n";
}

draw($svg, @drawn) if defined $svg;

# Bars of three parts, a group of them for each row, each group in a scale of its own.
sub draw {
	my ($file, @bars) = @_;
	my ($y, $last, $out) = (10, '', '');
	my %color = (app => '#2f6f9f', web => '#9fc5e0', db => '#d98c3f');
	my %most;
	for (@bars) { my $all = $_->{app} + $_->{web} + $_->{db}; $most{$_->{name}} = $all if $all > ($most{$_->{name}} // 0) }
	for my $b (@bars) {
		if ($b->{name} ne $last) {
			$y += 22;
			$out .= sprintf qq(<text x="8" y="%d" font-weight="bold">%s (%s)</text>\n), $y, $b->{name}, $b->{unit};
			$last = $b->{name};
		}
		$y += 20;
		my $x = 90;
		$out .= sprintf qq(<text x="8" y="%d">%s</text>\n), $y + 4, $b->{server};
		for my $part (qw(app web db)) {
			my $w = 430 * $b->{$part} / $most{$b->{name}};
			$out .= sprintf qq(<rect x="%.1f" y="%d" width="%.1f" height="14" fill="%s"/>\n), $x, $y - 7, $w, $color{$part} if $w > 0;
			$x += $w;
		}
		$out .= sprintf qq(<text x="%.1f" y="%d">%.3g</text>\n), $x + 5, $y + 4, $b->{app} + $b->{web} + $b->{db};
	}
	my $legend = join '', map { sprintf qq(<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>\n), @$_ }
	    [90, $y + 24, $color{app}, 107, $y + 34, 'application'], [200, $y + 24, $color{web}, 217, $y + 34, 'web server'], [310, $y + 24, $color{db}, 327, $y + 34, 'database'];
	open my $fh, '>', $file or die "$file: $!\n";
	printf $fh qq(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 %d" font-family="sans-serif" font-size="12">\n<rect width="620" height="%d" fill="#fff"/>\n%s%s</svg>\n), $y + 50, $y + 50, $out, $legend;
	close $fh or die "$file: $!\n";
	return;
}

if ($short) {
	for my $what (grep { defined $said{$_} } sort keys %least) {
		printf "%s %s: %.2f times the floor; the document says %.2f\n", too_dear($what, $least{$what}) ? 'NOT OK' : 'ok', $what, $least{$what}, $said{$what};
	}
}
print "NOT OK: see the lines above\n" if $bad;
exit($bad ? 1 : 0);
