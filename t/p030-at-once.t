#!/usr/bin/env perl
# SPEC 2, promise 6: what was held, released or confirmed through this seatcast is with every viewer of its block within 100 ms
# of the answer, and so is what somebody else wrote and says by `changed`; yet the database is asked every 100 ms at most.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 200, poll_interval => '1s', max_holds => 0);
my @fan = map { $s->client("fan $_")->watch(1, 101) } 1 .. 50;
$_->expect_event('init') for @fan;
my $match = $s->client('of the match')->get('/api/matches/1/status-stream?blocks=101')->expect_event('init');
my $allocation = '/api/matches/1/allocation/seats';

# What do does, until its answer; how long after that the last viewer has the seat.
my @late;
sub at_once {
	my ($seat, $status, @request) = @_;
	my $r = $s->http(@request);
	my $answered = time;
	like($r->{status}, qr/^20[04]$/, "$request[0] $request[1]") or die "no good answer\n";
	for my $c (@fan, $match) { $c->expect_seat($seat => $status, within => 5) }
	my @at = map { my $c = $_; (grep { $_->{type} eq 'update' && $_->{json}{data}{seatId} == $seat && $_->{json}{data}{status} eq $status } @{$c->{events}})[-1]{at} } @fan, $match;
	my ($last) = sort { $b <=> $a } @at;
	push @late, $last - $answered;
	return;
}

for my $seat (101 .. 112) {
	$s->pass_time(0.03 + rand 0.25);		# all phases of the poll
	at_once($seat, 'HOLD', POST => "$allocation/$seat/hold", {}, { userId => 7 });
	at_once($seat, 'OCCUPIED', POST => "$allocation/confirm", {}, { userId => 7, seatIds => [$seat] }) if $seat % 3 == 0;
	at_once($seat, 'AVAILABLE', POST => "$allocation/$seat/release", {}, { userId => 7 }) if $seat % 3 == 1;
}
for my $seat (121 .. 126) {
	$s->pass_time(0.03 + rand 0.25);
	$s->sql("INSERT INTO allocations (match_id, seat_id, user_id, status) VALUES (1, $seat, 9, 'OCCUPIED')");
	at_once($seat, 'OCCUPIED', POST => '/api/matches/1/blocks/101/seats/changed', {}, '');
}
my @sorted = sort { $a <=> $b } @late;
# Of 26 the last but one, for a hundredth part; and the last: a poll that has just gone out is 100 ms before the next, whose own time comes to that.
my $says = sprintf '%d writes: at the last of %d viewers %.0f ms (median) after the answer, ', scalar @late, scalar @fan, 1000 * $sorted[@sorted / 2];
$s->in_time($sorted[-2], 0.1, $says . sprintf '%.0f ms for all but one', 1000 * $sorted[-2]);
$s->in_time($sorted[-1], 0.125, sprintf '… and %.0f ms at most', 1000 * $sorted[-1]);

# A hundred writes a second: ten polls, and the tick keeps its phase.
my $polls = $s->counter('polls');
my ($t, $n) = (time, 0);
while (time - $t < 3) {
	$s->http(POST => "$allocation/" . (130 + $n++ % 60) . '/hold', {}, { userId => 7 });
}
my $took = time - $t;
$s->pass_time(0.2);
my $rate = ($s->counter('polls') - $polls) / $took;
cmp_ok($n / $took, '>', 30, sprintf '%.0f holds a second', $n / $took);
cmp_ok($rate, '<=', 2 * 11, sprintf '… are %.1f polls a second of two groups, the block and the match', $rate);
$s->done;
