#!/usr/bin/env perl
# SPEC 2, promise 4: a HOLD whose hold_expires_at has passed is shown AVAILABLE at that moment, although nothing wrote to the
# row; moved, it is the new moment.  The poll is slow here, so that only a timer can be in time.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 10, poll_interval => '1s', reconcile_interval => '60m');
my $slack = 0.15 * ($ENV{SEATCAST_PATIENCE} // 1);
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
# Hold with an end in so many seconds; the end, as Unix time: the database's clock is ours.
sub hold {
	my ($seat, $seconds) = @_;
	my ($r) = $s->sql("INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at)
		VALUES (1, $seat, 7, 'HOLD', (clock_timestamp() + interval '$seconds s') AT TIME ZONE 'UTC')
		ON CONFLICT (match_id, seat_id) DO UPDATE SET hold_expires_at = EXCLUDED.hold_expires_at, status = 'HOLD'
		RETURNING extract(epoch FROM hold_expires_at AT TIME ZONE 'UTC')");
	return $r->[0];
}
sub ended_at { my ($seat) = @_; return map { $_->{at} } grep { $_->{json}{data}{seatId} == $seat && $_->{json}{data}{status} eq 'AVAILABLE' } $c->events('update') }
sub expect_end {
	my ($seat, $at, $says) = @_;
	$c->expect_seat($seat => 'AVAILABLE', within => 5);
	my @ended = ended_at($seat);
	is(scalar(@ended), 1, "$says: it ends once");
	$s->in_time(abs($ended[0] - $at), $slack, sprintf '… %+.0f ms from its moment', 1000 * ($ended[0] - $at));
	return;
}

my %until = map { (100 + $_ => hold(100 + $_, 1.3 + 0.27 * $_)) } 1 .. 4;
$s->sql("INSERT INTO allocations (match_id, seat_id, user_id, status) VALUES (1, 109, 7, 'HOLD')");
$s->sql("INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at) VALUES (1, 110, 7, 'HOLD', 'infinity')");
my $longer = hold(105, 2.6);		# long enough for a poll to see the extension
my $shorter = hold(106, 60);
$c->expect_seat(map { $_ => 'HOLD' } 101 .. 106, 109, 110);
$longer = hold(105, 4.5);			# extended before it ends
$shorter = hold(106, 3.0);			# shortened
expect_end($_, $until{$_}, "seat $_") for sort keys %until;
my ($row) = $s->sql('SELECT count(*) FROM allocations WHERE status = \'HOLD\' AND seat_id BETWEEN 101 AND 104');
is($row->[0], 4, 'the rows still say HOLD');
my $new = $s->client('new')->watch(1, 101)->expect_event('init')->expect_same_seats($c);
like($s->http(GET => $s->snapshot_path(1, 101))->{body}, qr/"id":101,"status":"AVAILABLE"/, 'new viewers and snapshots say AVAILABLE');
expect_end(106, $shorter, 'shortened');
expect_end(105, $longer, 'extended');
$c->expect_seat(109 => 'HOLD', 110 => 'HOLD');

# Over already when it is written: never shown; renewed: shown again.
hold(107, -1);
hold(101, 60);
$c->expect_seat(101 => 'HOLD');
is(scalar(grep { $_->{json}{data}{seatId} == 107 } $c->events('update')), 0, 'a hold that is over when written is not shown');
$s->sql("UPDATE allocations SET hold_expires_at = '-infinity' WHERE seat_id = 110");
$c->expect_seat(110 => 'AVAILABLE');
$s->expect_counter(expiries => 6)->expect_counter(late_seats => 0);

# Renewed in the last moment, when the last poll has been: never shown as over, since it never was.
my %renew = map { $_ => hold($_, 1.5 + ($_ - 102) * 0.17) } 102 .. 104, 108;
$c->expect_seat(map { $_ => 'HOLD' } keys %renew);
my ($from, %late) = scalar $c->events('update');
for my $seat (sort { $renew{$a} <=> $renew{$b} } keys %renew) {
	$s->pass_time($renew{$seat} - 0.04 - time) if $renew{$seat} - 0.04 > time;
	hold($seat, 60);
	$late{$seat} = 1 if time > $renew{$seat};		# our own fault: it was over
}
$s->pass_time(1.5);		# time for a poll that says otherwise
cmp_ok(scalar(keys %late), '<', 3, '… renewed in time');
my @shown = map { "$_->{seatId} $_->{status}" } grep { !$late{$_->{seatId}} } map { $_->{json}{data} } ($c->events('update'))[$from .. $c->events('update') - 1];
is(join(', ', @shown), '', 'a hold renewed in the last moment is never shown AVAILABLE');
$s->done;
