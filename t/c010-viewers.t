#!/usr/bin/env perl
# SPEC 2, promise 5: the database is asked once per poll and watched block, however many viewers there are, and not at all for
# a block nobody watches.  Two blocks do not mix.  A viewer that goes away is noticed and leaves nothing behind.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 20, linger => '60s');
# How many polls the database saw in that time, by its own log.
sub polls_in { my ($seconds, $block) = @_; my $n = $s->queries($block); my $t = time; $s->pass_time($seconds); return ($s->queries($block) - $n) / (time - $t) }

is(polls_in(0.5), 0, 'nobody watches: no query');

my $one = $s->client('one')->watch(1, 101)->expect_event('init');
my $rate = polls_in(2, 101);
cmp_ok(abs($rate - 5), '<=', 1, sprintf 'one viewer, a poll every 200 ms: %.1f a second', $rate);
is($s->queries(102), 0, '… and none of the other block');
my ($loop) = $s->pids('loop 1/101');
$s->expect_counter(viewers => 1);
my $fds = $s->fds($loop);

my @more = map { $s->client("more $_")->watch(1, 101) } 2 .. 300;
$_->expect_event('init') for @more[0, -1];
$s->expect_counter(viewers => 300, within => 10);
my $crowd = polls_in(2, 101);
cmp_ok(abs($crowd - 5), '<=', 1, sprintf '300 viewers: %.1f a second', $crowd);
is(scalar($s->pids('loop')), 1, 'one loop serves them all');
my ($backends) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'");
cmp_ok($backends->[0], '<=', 3, 'connections: one of the loop, and at most one for each of the two workers');

# Two blocks
my $other = $s->client('other')->watch(1, 102)->expect_event('init');
is(join(' ', sort { $a <=> $b } keys %{$other->{seats}}), join(' ', 1000001 .. 1000020), 'the other block has its own seats');
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m'); SELECT seatcast.hold(1, 1000003, 7, '5m'); SELECT seatcast.hold(1, 120, 7, '5m')");
$other->expect_seat(1000003 => 'HOLD');
my @all = ($one, @more);
ok($s->wait_for(sub { 300 == grep { ($_->{seats}{101} // '') eq 'HOLD' && $_->{seats}{120} eq 'HOLD' } @all }, 2), 'all 300 have both changes of theirs');
$s->pass_time(0.5);
is(scalar($other->events('update')), 1, 'one update there');
is(scalar(grep { 20 != keys %{$_->{seats}} } @all), 0, '… and no seat of the other block here');
is(join(' ', map { scalar $_->events('init') } $one, @more[0, 98, 298], $other), '1 1 1 1 1', 'each had one init');

# Gone
$_->close for @more;
$s->expect_counter(viewers => 1, labels => qr/block="101"/, within => 1);
ok($s->wait_for(sub { $s->fds($loop) == $fds }, 2), 'the loop has its descriptors back') or diag($s->fds($loop), " instead of $fds");
$_->close for $one, $other;
$s->expect_counter(viewers => 0, within => 1);
$s->pass_time(0.25);			# a poll may be under way
is(polls_in(1), 0, 'nobody watches any more: no query');
is(join(' ', sort map { scalar $s->pids("loop 1/$_") } 101, 102), '1 1', '… though the loops linger');
my $back = $s->client('back')->watch(1, 101)->expect_event('init')->expect_seat(101 => 'HOLD');
is(($s->pids('loop 1/101'))[0], $loop, '… and serve who comes back');
$s->expect_counter(late_seats => 0);
$back->close;

# A snapshot is no viewer: its loop polls on for a moment, for the next one, and not for longer.
is($s->http(GET => $s->snapshot_path(1, 102))->{status}, 200, 'a snapshot');
$s->pass_time(1.5);
is(polls_in(1, 102), 0, '… does not keep the loop polling');
$s->done;
