#!/usr/bin/env perl
# How long from a commit until the change has arrived: one viewer through lighttpd, updates at random moments.
#
#	perl bench/delay.pl [updates, 100] [poll interval, 1s]
#
# The poll interval is part of it: half of it on average, all of it at worst (SPEC: interval + 100 ms).
# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Client;
use Scenario;
use Time::HiRes qw(time);

my ($updates, $interval) = (shift // 100, shift // '1s');
my $s = Scenario->new(poll_interval => $interval, seats => 400);
my $viewer = $s->client('viewer')->watch(1, 101);
$s->wait_for(sub { $viewer->events('init') }) or die "no init\n";
my @delay;
for my $i (1 .. $updates) {
	$s->pass_time(0.05 + rand 0.6);
	my $seat = 101 + $i % 400;
	my $was = $viewer->{seats}{$seat};
	my $status = $was eq 'OCCUPIED' ? 'AVAILABLE' : 'OCCUPIED';
	$s->sql("INSERT INTO allocations (match_id, seat_id, user_id, status) VALUES (1, $seat, 7, '$status')"
		. " ON CONFLICT (match_id, seat_id) DO UPDATE SET status = '$status'");
	my $committed = time;
	$s->wait_for(sub { $viewer->{seats}{$seat} eq $status }, 10) or die "update $i never came\n";
	push @delay, ($viewer->events)[-1]{at} - $committed;
}
@delay = sort { $a <=> $b } @delay;
my $at = sub { return 1000 * $delay[int($_[0] * $#delay)] };
printf "%d updates, poll interval %s: commit to arrival p50 %.0f ms, p90 %.0f ms, max %.0f ms\n",
    $updates, $interval, $at->(0.5), $at->(0.9), $at->(1);
$s->{stage}->strike;
Test::More->builder->no_ending(1);
