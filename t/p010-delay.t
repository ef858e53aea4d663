#!/usr/bin/env perl
# SPEC 2, promise 1: every viewer has a change within one poll plus 100 ms of its commit (here: 150, for the test's own
# share).  The poll interval is the default.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 20, poll_interval => undef);
my @c = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 3;
my $slack = 0.15 * ($ENV{SEATCAST_PATIENCE} // 1);
my %before;
for my $seat (101 .. 120) {
	$s->pass_time(0.05 + rand 0.3);		# all phases of the poll
	$before{$seat} = time;
	$s->sql("SELECT seatcast.hold(1, $seat, 7, '5m')");
}
$_->expect_seat((map { $_ => 'HOLD' } 101 .. 120), within => 5) for @c;
my @delay = map { $_->{at} - $before{$_->{json}{data}{seatId}} } map { $_->events('update') } @c;
is(@delay, 60, '20 updates reached 3 viewers');
@delay = sort { $a <=> $b } @delay;
$s->in_time($delay[-1] // 99, 1 + $slack, 'each within one poll and 150 ms');
diag(sprintf 'commit to arrival: p50 %.0f ms, maximum %.0f ms', map { 1000 * $_ } $delay[@delay / 2], $delay[-1]) if @delay;
$s->done;
