#!/usr/bin/env perl
# kill -9 of a loop, of a worker, of the master: viewers reconnect and converge, the rest goes on, and nothing is left over:
# no process, no database connection, no descriptor; the socket can be used again.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 20);
my $seat = 101;
sub connections { my ($r) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'"); return $r->[0] }
sub sell { my $n = $seat++; $s->sql("SELECT seatcast.hold(1, $n, 7, '5m'); SELECT seatcast.confirm(1, 7, '{$n}')"); return $n }
sub expect_all {		# everybody has what the database has
	my ($within, @c) = @_;
	my %db = map { @$_ } $s->sql("SELECT s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = 101");
	$_->expect_same_seats(\%db, within => $within) for @c;
	return;
}
# As an EventSource, but impatient: until the stream is served again.
sub come_back {
	my ($within, @c) = @_;
	for my $c (@c) {
		$s->expect("$c->{name} is served again", sub {
			eval { $c->reconnect; 1 } or return 0;
			return $s->wait_for(sub { grep({ $_->{type} ne 'busy' } $c->events) || $c->{closed} }, 3) && grep { $_->{type} ne 'busy' } $c->events;
		}, $within);
	}
	return;
}

my @c = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 5;
my $other = $s->client('other')->watch(1, 102)->expect_event('init');
$s->http(GET => '/readyz') for 1 .. 20;
my @workers = $s->pids('worker');
my ($master) = $s->pids('master');
my ($loop) = $s->pids('loop 1/101');
is(scalar(@workers), 2, 'two workers');
my ($connections, $fds) = (connections(), $s->fds($master));
is($connections, 4, 'connections: two loops, two workers');

# ---- a loop ----

kill 'KILL', $loop;
$_->expect_closed(within => 2) for @c;
sell();
come_back(4, @c);
isnt(($s->pids('loop 1/101'))[0], $loop, 'another loop');
sell();
expect_all(2, @c);
is($s->counter('loop_crashes'), 1, 'it was counted');
ok(!$other->{closed}, 'the other block noticed nothing');
ok($s->wait_for(sub { connections() == $connections }, 3), 'as many database connections as before') or diag connections();
ok($s->wait_for(sub { $s->fds($master) == $fds }, 3), '… and descriptors of the master') or diag $s->fds($master);

# ---- workers, one and all ----

my @old = $s->pids('worker');
for my $victims ([$old[0]], undef) {
	my @victims = $victims ? @$victims : $s->pids('worker');
	kill 'KILL', @victims;
	$s->expect('killed ' . @victims . ': replaced', sub { my @now = $s->pids('worker'); my %v = map { $_ => 1 } @victims; @now == 2 && !grep { $v{$_} } @now }, 5);
	my $new = $s->client('new')->watch(1, 101)->expect_event('init');
	sell();
	expect_all(2, @c, $new);
	$new->close;
}
$s->expect_counter(worker_restarts => 3);
is(scalar(grep { $_->{closed} } @c, $other), 0, 'streams noticed nothing');
$s->http(GET => '/readyz') for 1 .. 20;
ok($s->wait_for(sub { connections() == $connections }, 3), 'as many database connections as before') or diag connections();
ok($s->wait_for(sub { $s->fds($master) == $fds }, 3), '… and descriptors of the master') or diag $s->fds($master);

# ---- the master ----

my @all = ($s->pids('master'), $s->pids('worker'), $s->pids('loop'));
is(scalar(@all), 5, 'a master, two workers, two loops');
kill 'KILL', $master;
ok($s->wait_for(sub { $s->{stage}->ended('seatcast') && !grep { kill 0, $_ } @all }, 3), 'the master killed: its children end');
$_->expect_closed(within => 2) for @c, $other;
ok($s->wait_for(sub { connections() == 0 }, 3), '… and their database connections') or diag connections();
ok(-S $s->dir . '/fcgi.sock', 'its socket is left behind');
sell();
$s->restart_seatcast;
come_back(5, @c);
sell();
expect_all(2, @c);
is(connections() <= 4, 1, 'no more database connections than before');
$s->done;
