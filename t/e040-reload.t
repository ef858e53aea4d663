#!/usr/bin/env perl
# Operating lighttpd with streams open.  Log rotation: nobody is disconnected, new lines go to the new files.  Reload (SIGUSR1):
# no request is refused or lost, streams end seconds later and go on after a reconnect, with every change of the time between.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

my $patience = $ENV{SEATCAST_PATIENCE} // 1;
my $s = Scenario->new(seats => 200, heartbeat => '1s', listen_mode => '0666');
my $stage = $s->{stage};
my $dir = $s->dir;
my $user = Deploy::web_user();		# as root: the real thing, with the user changed; a reload happens as that user
chmod 0777, "$dir/log" or die $!;

# With an access log, as the comments of the sample say; streams end after 2 s rather than 5.
sub start {
	my ($append) = @_;
	$s->stop_lighttpd;
	unlink "$dir/log/access.log";
	$s->start_lighttpd(append => $append, edit => sub {
		s/^#\t(server\.modules \+= \( "mod_accesslog" \))\n#\t(accesslog\.filename = .*)/$1\n$2/m or die 'no access log';
		s/("server.graceful-shutdown-timeout" => )5/${1}2/ or die 'no timeout';
		$_ .= qq(server.username = "$user"\nserver.groupname = "$user"\n) if $user;
	});
	return;
}
sub access { return Stage::slurp("$dir/log/access.log" . ($_[0] // '')) }

# ---- log rotation ----

start();
my @fan = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 4;
is($s->http(GET => '/healthz?before')->{status}, 200, 'a request before');
for my $name (qw(access.log error.log)) { rename "$dir/log/$name", "$dir/log/$name.1" or die "$name: $!" }
is($s->http(GET => '/healthz?between')->{status}, 200, 'the logs are renamed: a request');
kill 'HUP', $s->pid('lighttpd'), $s->pid('seatcast');
$s->expect('SIGHUP: new files', sub { -e "$dir/log/access.log" && -e "$dir/log/error.log" });
is($s->http(GET => '/healthz?after')->{status}, 200, 'a request after it');
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$_->expect_seat(101 => 'HOLD') for @fan;
(pop @fan)->close;
$s->expect('… is in the new file', sub { access() =~ /healthz\?after/ }, 20);
$s->expect('… and a stream when it ends', sub { access() =~ /status-stream HTTP\/1\.1" 200/ }, 20);
unlike(access('.1'), qr/after|status-stream/, '… they alone');
is(join(' ', access('.1') =~ /healthz\?(\w+)/g), 'before between', 'the old file has what was before');
$s->pass_time(1.5);
is(join(' ', map { $_->{closed} // 'open' } @fan), 'open open open', 'nobody was disconnected');
$s->expect_counter(viewers => 3);

# ---- reload ----

# Requests, four at a time, until cond is true.  What became of them, status => how many; and what the slowest took.
sub load {
	my ($cond) = @_;
	my ($slowest, %became, @asking) = 0;
	my $over = sub {
		my ($c) = @_;
		$became{$c->{status} && ($c->{closed} // '') eq 'clean' ? $c->{status} : 'lost'}++;
		my $took = ($c->{closed_at} // time) - $c->{opened_at};
		$slowest = $took if $took > $slowest;
	};
	do {
		$over->($_) for grep { $_->{closed} } @asking;
		@asking = grep { !$_->{closed} } @asking;
		$s->{clients} = [grep { $_->{fh} || $_->{name} ne 'load' } @{$s->{clients}}];
		while (@asking < 4) {
			my $c = $s->client('load');
			eval { $c->request(GET => @asking % 2 ? '/healthz' : $s->snapshot_path(1, 102)) } or $became{refused}++, last;
			push @asking, $c;
		}
		$s->pass_time(0.005);
	} until $cond->();
	$s->wait_for(sub { !grep { !$_->{closed} } @asking });
	for my $c (@asking) { $over->($c); $c->close }
	return (\%became, $slowest);
}

sub reload {
	my ($what) = @_;
	my $seat = 101;
	my $t = time;
	my $changed = 0;
	my %ended;
	kill 'USR1', $s->pid('lighttpd');
	my ($became, $slowest) = load(sub {
		if (time - $changed > 0.1) {			# changes all the time
			$changed = time;
			$seat = 101 + ($seat - 100) % 200;
			$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, $seat, 'OCCUPIED') ON CONFLICT (match_id, seat_id)
				DO UPDATE SET status = CASE allocations.status WHEN 'OCCUPIED' THEN 'HOLD' ELSE 'OCCUPIED' END");
		}
		for my $c (grep { $_->{closed} } @fan) {	# an EventSource
			$ended{$c->{name}} = $c->{closed_at} - $t;
			$c->reconnect;
		}
		return keys %ended == @fan || time - $t > 20 * $patience;
	});
	my @ended = sort { $a <=> $b } values %ended;
	is(join(' ', sort keys %$became), '200', "$what: $became->{200} requests meanwhile, none refused or lost")
	    or diag(join ' ', map { "$_: $became->{$_}" } sort keys %$became);
	$s->in_time($slowest, 1 * $patience, sprintf '… the slowest took %.0f ms', 1000 * $slowest);
	ok(@ended == @fan && $ended[-1] < 2 + 3 * $patience, sprintf 'streams end in time: %s s', join ' ', map { sprintf '%.1f', $_ } @ended);
	cmp_ok($ended[0] // 0, '>', 1.2, '… but not at once');
	$s->wait_for(sub { !grep { !$_->events } @fan }, 5);
	is(scalar(map { $_->events('init') } @fan), 0, '… and go on from their Last-Event-ID');
	my %now = map { ($_->[0] => $_->[1]) } $s->sql("SELECT s.id, coalesce(a.status::text, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = 101");
	$_->expect_same_seats(\%now) for @fan;
	ok(!$stage->ended('lighttpd'), 'lighttpd has the same pid');
	$s->expect_counter(viewers => 3);
	return;
}

my $pid = $s->pid('lighttpd');
is(scalar(getpwuid +(stat "/proc/$pid")[4]), $user, "lighttpd is $user") if $user;
reload("reload $_") for 1 .. 4;

# Several processes do it in another way.
start("server.max-worker = 2\n");
for my $c (@fan) { $c->expect_closed; $c->watch(1, 101)->expect_event('init') }
reload("two workers, reload $_") for 1 .. 2;
$s->done;
