#!/usr/bin/env perl
# What a web server's settings, and the shape of what it is sent, cost for each event that it passes on: the second table of
# doc/performance.md.
#
#	perl bench/servers.pl			all of it: some 20 minutes
#	perl bench/servers.pl --only nginx	rows that match
#	perl bench/servers.pl --rounds 1 --seconds 3
#
# 1,000 viewers of 10 blocks, 100 changed seats a second.  One seatcast (bench/floor, for the shapes: it sends the same events to
# the same viewers and decides nothing), and before it one web server after the other, from its sample with one thing changed.
# Microseconds of processor time for each event that reached a viewer, in the web server and in the application, and for each
# stream that is opened, in the web server; median of the rounds, least and most.  A row counts if every viewer of a block had
# the same events in the same order and none was closed: missed is how many did not.
# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib", $FindBin::Bin;
use Getopt::Long;
use Time::HiRes qw(time sleep);
use Bench;
use Deploy;
use Scenario;

my ($only, $rounds, $seconds) = ('', 3, 4);
GetOptions('only=s' => \$only, 'rounds=i' => \$rounds, 'seconds=i' => \$seconds) or die "see the first lines of $0\n";
my ($VIEWERS, $BLOCKS, $CHANGES) = (1000, 10, 100);
Test::More->builder->no_ending(1);
$| = 1;

# A line of a sample, replaced; or one more.
sub instead { my ($from, $to) = @_; return sub { s/$from/$to/m or die "no $from in the sample\n" } }
sub also { my ($line) = @_; return sub { $_ .= "$line\n" } }

my @settings = (		# what is changed, the server, how
	['lighttpd, as in the sample', 'lighttpd'],
	['server.stream-response-body = 1', 'lighttpd', instead(qr/^server\.stream-response-body = 2/m, 'server.stream-response-body = 1')],
	['server.max-worker = 1', 'lighttpd', also('server.max-worker = 1')],
	['server.max-worker = 2', 'lighttpd', also('server.max-worker = 2')],
	['server.event-handler = "poll"', 'lighttpd', also('server.event-handler = "poll"')],
	['server.network-backend = "write"', 'lighttpd', also('server.network-backend = "write"')],
	['server.chunkqueue-chunk-sz = 4096', 'lighttpd', instead(qr/^server\.chunkqueue-chunk-sz.*/m, 'server.chunkqueue-chunk-sz = 4096')],
	['server.chunkqueue-chunk-sz = 8192, the default', 'lighttpd', instead(qr/^server\.chunkqueue-chunk-sz.*/m, 'server.chunkqueue-chunk-sz = 8192')],
	['server.chunkqueue-chunk-sz = 32768', 'lighttpd', instead(qr/^server\.chunkqueue-chunk-sz.*/m, 'server.chunkqueue-chunk-sz = 32768')],
	['server.max-fds = 4096', 'lighttpd', sub { s/^(server\.max-fds\s*=).*/$1 4096/m or die; s/^(server\.max-connections\s*=).*/$1 2048/m or die }],
	['tcp-fin-propagate off', 'lighttpd', instead(qr/^(\s*)"tcp-fin-propagate" => "enable"/m, '"tcp-fin-propagate" => "disable"')],
	['nginx, as in the sample', 'nginx'],
	['worker_processes 1', 'nginx', instead(qr/^worker_processes auto;/m, 'worker_processes 1;')],
	['fastcgi_buffer_size 4k', 'nginx', instead(qr/^(\s*)fastcgi_buffering off;/m, 'fastcgi_buffering off; fastcgi_buffer_size 4k;')],
	['fastcgi_buffers 8 32k, fastcgi_buffer_size 32k', 'nginx', instead(qr/^(\s*)fastcgi_buffering off;/m, 'fastcgi_buffering off; fastcgi_buffers 8 32k; fastcgi_buffer_size 32k;')],
	['gzip off', 'nginx', instead(qr/^\s*gzip on;/m, 'gzip off;')],
	['tcp_nodelay off', 'nginx', instead(qr/^\s*gzip on;/m, 'gzip on; tcp_nodelay off;')],
	['multi_accept on', 'nginx', instead(qr/^events \{/m, "events {\n\tmulti_accept on;")],
	['HAProxy speaking FastCGI, as in the sample', 'haproxy'],
	['nbthread 1', 'haproxy', instead(qr/^global$/m, "global\n\tnbthread 1")],
	['nbthread 2', 'haproxy', instead(qr/^global$/m, "global\n\tnbthread 2")],
	['option http-no-delay', 'haproxy', instead(qr/^defaults$/m, "defaults\n\toption http-no-delay")],
	['tune.bufsize 16384', 'haproxy', instead(qr/^\s*tune\.bufsize .*/m, "\ttune.bufsize 16384")],
	['mod_proxy_fcgi, as in the sample', 'proxy-fcgi'],
	['flushpackets=auto', 'proxy-fcgi', sub { s/flushpackets=on/flushpackets=auto/g }],
);
my @shapes = (			# of what is sent, behind lighttpd's sample
	['a record and a send for each block and poll, as seatcast does', 'record'],
	['a record for each event, one send', 'records'],
	['a send for each event', 'sends'],
	['records padded to eight bytes', 'padded'],
	['SO_SNDBUF 4,608', 'sndbuf:4608'],
	['SO_SNDBUF 1 MiB', 'sndbuf:1048576'],
	['1,000 bytes more of header', 'header:1000'],
	['4,000 bytes more of header', 'header:4000'],
	['TCP on loopback instead of a unix socket', 'tcp'],
);

# One row's round: its web server is up, its application publishes.
sub measure {
	my ($stage, $web, $app, $publish) = @_;
	my %part = (web => [$web], app => [$app]);
	my $used = sub { return { map { $_ => cpu(family($stage, @{$part{$_}})) } keys %part } };
	my $before = $used->();
	my $v = viewers($stage, 'http', $stage->{port}, $VIEWERS, $BLOCKS);
	my (undef, undef, $lost) = say_to($v, 'open');
	my $opened = $used->();
	my $run = sub { my $end = time + $_[0]; while (time < $end) { $publish->() if $publish; sleep 0.02 } };
	$run->(1.2);
	settled($v) if $publish;
	say_to($v, 'mark');
	$run->(1.2);			# all are under way again: what is counted below is a piece of something steady
	my ($began, $already) = ($used->(), (say_to($v, 'report'))[1]);
	$run->($seconds);
	my ($ended, $events) = ($used->(), (say_to($v, 'report'))[1] - $already);
	my (undef, undef, undef, $odd, $gone) = $publish ? settled($v) : say_to($v, 'report');
	say_to($v, 'close');
	end_of($v);
	return { map({ $_ => ($ended->{$_} - $began->{$_}) / ($events || 1) } keys %part), stream => ($opened->{web} - $before->{web}) / $VIEWERS,
		missed => $lost + $gone + ($publish ? $odd : 0), events => $events };
}

# One line a measurement, for whoever waits.
sub seen { my ($says, $r) = @_; printf STDERR "%s: %.3g %.3g %.3g, %d missed\n", $says, @$r{qw(web app stream missed)}; return $r }
sub head { my ($what, $app) = @_; print "| $what | web server | $app | a stream opened, web server | missed |\n|---|---|---|---|---|\n"; return }
sub row {
	my ($says, @r) = @_;
	printf "| %s | %s | %s | %s | %s |\n", $says, (map { my $k = $_; spread(map { $_->{$k} } @r) } qw(web app stream)), join ' ', sort { $a <=> $b } map { $_->{missed} } @r;
	return;
}

printf "%s; %d rounds of %d s, %d viewers of %d blocks, %d changed seats a second\n\n", machine(), $rounds, $seconds, $VIEWERS, $BLOCKS, $CHANGES;

# ---- settings ----

my %needs = ('proxy-fcgi' => 'mod_proxy_fcgi');
my @rows = grep { "@$_[0, 1]" =~ /$only/ } @settings;
if (@rows) {
	my $s = Scenario->new(demo => 1, lighttpd => 0, poll_interval => '1s', workers => 2, max_streams => 19000, max_groups => 100, heartbeat => '15s', listen_mode => '0666',
		pg => { log_statement => 'none' });
	my $stage = $s->{stage};
	my $publish = buyers($s, $BLOCKS, $CHANGES);
	my %seen;
	for my $round (1 .. $rounds) {
		for my $r (grep { have($needs{$_->[1]} // $_->[1]) } @rows) {
			my ($says, $server, $edit) = @$r;
			$stage->{port_try} = 0;
			my $web = $server eq 'haproxy' ? do { start_haproxy_fcgi($stage, edit => $edit); 'haproxy' } : start_server($stage, $server, edit => $edit);
			push @{$seen{$says}}, seen($says, measure($stage, $web, 'seatcast', $publish));
			$stage->stop($web, 'TERM', 20);
			$stage->wait_until(sub { !FastCGI->connect($stage->{listen}, try => 1) || $s->counter('viewers') == 0 });
		}
	}
	head('setting', 'seatcast');
	row($_->[0], @{$seen{$_->[0]}}) for grep { $seen{$_->[0]} } @rows;
	print "\n";
	$stage->strike;
}

# ---- shapes ----

@rows = grep { "@$_ shape" =~ /$only/ } @shapes;
if (@rows) {
	my %seen;
	for my $round (1 .. $rounds) {
		for my $r (@rows) {
			my ($says, $shape) = @$r;
			my $stage = Stage->new;
			my $port = $shape eq 'tcp' ? $stage->free_port : undef;
			floor($stage, 'fcgi', $port // "$stage->{dir}/fcgi.sock", $BLOCKS, $CHANGES, $shape);
			$stage->start_lighttpd(edit => $port && instead(qr/"socket" => var\.socket/m, qq("host" => "127.0.0.1", "port" => $port)));
			push @{$seen{$says}}, seen($says, measure($stage, 'lighttpd', 'floor', undef));
			delete $stage->{floor_stdin};
			$stage->stop($_, 'KILL') for keys %{$stage->{proc}};
			$stage->strike;
		}
	}
	head('shape', 'floor');
	row($_->[0], @{$seen{$_->[0]}}) for @rows;
}
