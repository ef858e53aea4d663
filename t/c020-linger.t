#!/usr/bin/env perl
# A loop without viewers leaves after --linger, and its database connection with it.  A viewer that comes in this very
# moment is served all the same, with the state of now: tried at many points around it.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 5, lighttpd => 0, linger => '500ms', poll_interval => '100ms');
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my ($loop) = $s->pids('loop 1/101');
my $connections = sub { my ($r) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'"); return $r->[0] };
my $with = $connections->();
$c->close;
my $gone = time;
$s->expect('the loop leaves', sub { !$s->pids('loop') }, 3);
cmp_ok(time - $gone, '>=', 0.45, 'not before --linger');
$s->in_time(time - $gone, 1.2, 'nor long after');
ok($s->wait_for(sub { $connections->() < $with }, 2), 'its database connection is closed');
$c->watch(1, 101)->expect_event('init');
isnt(($s->pids('loop 1/101'))[0], $loop, 'the next viewer gets a new loop');
$c->close;

$s->restart_seatcast(undef, linger => '100ms');
my (@bad, %loops);
for my $round (1 .. 60) {
	my $seat = 101 + $round % 5;
	$s->sql('SELECT seatcast.' . ($round % 10 < 5 ? "hold(1, $seat, 7, '5m')" : "release(1, $seat, 7)"));
	my $viewer = $s->client("viewer $round")->watch(1, 101);
	$s->wait_for(sub { $viewer->events || $viewer->{closed} }, 5);
	my ($e) = $viewer->events;
	my $is = $viewer->{seats}{$seat} // 'unknown';
	push @bad, "round $round: " . ($e->{type} // $viewer->{closed} // 'nothing') . ", seat $seat $is"
	    if ($e->{type} // '') ne 'init' || $is ne ($round % 10 < 5 ? 'HOLD' : 'AVAILABLE');
	$loops{$_} = 1 for $s->pids('loop 1/101');
	$viewer->close;
	my $end = time + 0.070 + 0.001 * $round;	# 70 to 130 ms
	$s->pass_time(0.002) while time < $end;
}
is(join("\n", @bad), '', '60 viewers around the moment of leaving: each has an init of now');
cmp_ok(keys %loops, '>', 5, 'the loop did leave now and then: ' . keys %loops);
cmp_ok(keys %loops, '<', 55, '… and now and then did not');

# The same, to the point: what the loop and the worker say to the master meets there in either order, and a hand-over is on its
# way to a loop that wants to leave.  Whoever is stopped for that time does not see the others' order.
for my $case (qw(viewer-first leaving-first loop-stopped) x 3) {
	$s->client('before')->watch(1, 101)->expect_event('init')->close;
	my ($victim) = $s->pids($case eq 'loop-stopped' ? 'loop 1/101' : 'master');
	redo if !defined $victim;		# on a busy machine it may have left already
	my $viewer = $s->client($case);
	kill 'STOP', $victim;
	$viewer->watch(1, 101) if $case ne 'leaving-first';
	$s->pass_time(0.2);
	$viewer->watch(1, 101) if $case eq 'leaving-first';
	$s->pass_time(0.05);
	kill 'CONT', $victim;
	$viewer->expect_event('init', within => 3);
	$s->pass_time(0.1);
	$s->sql('SELECT seatcast.' . ($viewer->{seats}{105} eq 'HOLD' ? 'release(1, 105, 7)' : "hold(1, 105, 7, '5m')"));
	$viewer->expect_event('update', seatId => 105, within => 1)->close;
	$s->expect('it has gone', sub { $s->counter('viewers') == 0 }, 1);
}
$s->expect_counter($_ => 0) for qw(loop_crashes worker_restarts refused_overload);
$s->expect('at last none is left', sub { !$s->pids('loop') }, 2);
$s->done;
