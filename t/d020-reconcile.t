#!/usr/bin/env perl
# What leaves no row behind is found by the reconcile: a deleted row shows AVAILABLE, a new seat brings a new init, within
# --reconcile-interval; such seats are counted as late, and no others are.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 30, reconcile_interval => '1s');
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');

# Busy with everything a changes() call finds: nothing is late, over several reconciles, some with transactions open.
my @t = map { $s->session } 1 .. 3;
my $end = time + 3.5;
for (my $n = 0; time < $end; $n++) {
	my $t = $t[$n % 3];
	$t->query('BEGIN');
	$t->query('SELECT seatcast.' . ($n % 2 ? 'hold' : 'release') . "(1, @{[ 101 + $n % 7 ]}, 7" . ($n % 2 ? ", '5m')" : ')')) if $n % 3 == 0 || $n > 3;
	$s->pass_time(0.02);
	$_->query('COMMIT') for $n % 3 == 2 ? @t : ();
}
$_->query('COMMIT') for @t;
$s->expect_counter(reconciles => '>=', 4)->expect_counter(late_seats => 0);

# A row deleted.
$s->sql("SELECT seatcast.hold(1, 120, 7, '5m'); SELECT seatcast.hold(1, 121, 7, '5m')");
$c->expect_seat(120 => 'HOLD', 121 => 'HOLD');
my $at = time;
$s->sql('DELETE FROM allocations WHERE seat_id = 120');
$c->expect_seat(120 => 'AVAILABLE', within => 3);
$s->in_time(time - $at, 1.5, 'a deleted row: AVAILABLE within the reconcile interval');
$c->expect_seat(121 => 'HOLD');
$s->expect_counter(late_seats => 1);
is(scalar($c->events('init')), 1, '… as an update');

# A row of another match, or of the other block, is no change here.
my $seen = $c->events;
$s->sql("INSERT INTO matches (id, name) VALUES (2, 'Other'); SELECT seatcast.hold(2, 122, 7, '5m'); SELECT seatcast.hold(1, 1000001, 7, '5m')");
$c->expect_silence(1.3);

# The layout.
$at = time;
$s->sql('INSERT INTO seats (id, block_id, row_number, seat_number) VALUES (900, 101, 9, 1)');
$c->expect_event('init', within => 3);
$s->in_time(time - $at, 1.5, 'a new seat: init within the reconcile interval');
is(scalar(keys %{$c->{seats}}), 31, '… with all seats');
$c->expect_seat(900 => 'AVAILABLE', 121 => 'HOLD');
$s->sql("SELECT seatcast.hold(1, 900, 7, '5m')");
$c->expect_seat(900 => 'HOLD', within => 1);
$s->sql('DELETE FROM allocations WHERE seat_id = 130; DELETE FROM seats WHERE id = 130');
$c->expect_event('init', within => 3);
ok(!exists $c->{seats}{130}, 'a seat taken away: init without it');
$s->client('later')->watch(1, 101)->expect_event('init')->expect_same_seats($c);
$s->done;
