#!/usr/bin/env perl
# SPEC 3 with a hundred streams: SIGTERM ends them evenly over --drain-timeout, changes reach who is still there, who comes meanwhile is told busy
# with a retry that is drawn, and it exits 0.  The next start on the same path, right after, has everybody again.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $DRAIN = 4;
my $s = Scenario->new(seats => 10, lighttpd => 0, heartbeat => '60m', drain_timeout => "${DRAIN}s", pg => { log_statement => 'none' });
my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my @c = map { $s->client("fan $_")->watch(1, $_ <= 80 ? 101 : 102) } 1 .. 100;
$s->expect('a hundred streams', sub { !grep { !$_->events('init') } @c });
my @types = map { $_->{retry} } @c;
my %distinct = map { $_ => 1 } @types;
cmp_ok(scalar keys %distinct, '>', 80, 'their retry is drawn: ' . keys(%distinct) . ' values');
is(scalar(grep { $_ < 2000 || $_ > 3000 } @types), 0, '… between 2000 and 3000');

kill 'TERM', $s->pid('seatcast');
my $t = time;
my (@late, $changed, $missed);
while (!$s->{stage}->ended('seatcast') && time - $t < $DRAIN + 10) {
	push @late, $s->client('late ' . @late)->watch(1, 101) if @late < 40 && time - $t > 0.2 && time - $t < $DRAIN - 1;
	if (!$changed && time - $t > $DRAIN / 3) {
		$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
		$changed = time;
	}
	if ($changed && !defined $missed && time - $changed > 0.5) {
		my @there = grep { !$_->{closed} } @c[0 .. 79];
		$missed = grep { $_->{seats}{101} ne 'HOLD' } @there;
		is($missed, 0, 'a change while draining reaches all ' . @there . ' who are still there');
	}
	$s->pass_time(0.02);
}
my $took = time - $t;
is($s->{stage}{proc}{seatcast}{status} // 'none', 0, 'exits 0');
$s->serve(0.02) for 1 .. 20;
ok($took > $DRAIN * 0.6 && $took < $DRAIN + 0.5 + $slow, sprintf '… after %.2f s of %d', $took, $DRAIN);
is(scalar(grep { ($_->{closed} // '') ne 'clean' } @c), 0, 'all streams end with END_REQUEST');
my @at = sort { $a <=> $b } map { $_->{closed_at} - $t } @c;
my @quarter = (0) x 4;
$quarter[$_ < $DRAIN ? int($_ * 4 / $DRAIN) : 3]++ for @at;
ok(!grep({ $_ < 12 || $_ > 40 } @quarter), "… evenly: @quarter in the quarters of the time") or diag(join ' ', map { sprintf '%.2f', $_ } @at);
my ($gap) = sort { $b <=> $a } map { $at[$_] - $at[$_ - 1] } 1 .. $#at;
cmp_ok($gap, '<', $DRAIN / 6, sprintf '… the longest pause between two: %.2f s', $gap);

cmp_ok(scalar @late, '>=', 20, scalar(@late) . ' come meanwhile');
is(scalar(grep { !($_->events('busy') && ($_->{closed} // '') eq 'clean' && $_->{status} == 200) } @late), 0, '… each is told busy, politely') or diag(map { "  $_->{name}: " . ($_->{status} // 'none') . ' ' . ($_->{closed} // 'open') . " $_->{body}\n" } grep { !$_->events('busy') } @late);
my @retry = sort { $a <=> $b } map { $_->{retry} // 0 } @late;
ok($retry[0] >= 10_000 && $retry[-1] <= 20_000, "… retry from $retry[0] to $retry[-1]");
cmp_ok($retry[-1] - $retry[0], '>', 5000, '… spread');

$s->start_seatcast;
$_->reconnect for @c;
$s->expect('the next start, on the same path: all are back', sub { !grep { !$_->events('init') } @c });
is(scalar(grep { $_->{seats}{101} ne 'HOLD' } @c[0 .. 79]), 0, '… with the truth');
$_->close for @c;
$s->done;
