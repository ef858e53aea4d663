#!/usr/bin/env perl
# A flood of made-up ids costs no loop process and no database connection beyond one per worker, and delays nobody.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 5);
sub connections { my ($r) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'"); return $r->[0] }
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
$s->http(GET => '/readyz') for 1 .. 20;
my @before = ($s->pids('master'), $s->pids('worker'), $s->pids('loop'));
my $connections = connections();
is($connections, 3, 'connections: one loop, two workers');
my $connects = $s->counter('database_connects');

my ($most, %status, @wrong) = (0);
my $t = time;
for my $round (1 .. 10) {
	my @flood = map { my $n = $round * 100 + $_; $s->client("made up $n")->get(($n % 2 ? $s->stream_path($n % 3 ? 1 : $n, 5_000_000 + $n) : $s->snapshot_path(1, 5_000_000 + $n))) } 1 .. 100;
	push @flood, map { $s->client("no id $_")->get("/api/matches/1/blocks/$_/seats/status-stream") } qw(0 -1 x 99999999999999999999);
	$s->sql("SELECT seatcast." . ($round % 2 ? "hold(1, 101, 7, '5m')" : 'release(1, 101, 7)'));
	$fan->expect_seat(101 => $round % 2 ? 'HOLD' : 'AVAILABLE', within => 0.5 * ($ENV{SEATCAST_PATIENCE} // 1));
	$s->wait_for(sub { !grep { !$_->{closed} } @flood }, 10);
	$status{$_->{status} // 'none'}++ for @flood;
	$most = connections() if connections() > $most;
	push @wrong, $s->pids('loop') if $s->pids('loop') != 1;
	@{$s->{clients}} = ($fan);
}
my $took = time - $t;
is(join(' ', map { "$_: $status{$_}" } sort keys %status), '400: 40 404: 1000', sprintf 'a thousand blocks that do not exist, in %.1f s', $took);
is(join(' ', @wrong), '', 'no loop for any of them');
is($most, $connections, '… nor a database connection');
is($s->counter('database_connects'), $connects, '… not even for a moment');
is(join(' ', $s->pids('master'), $s->pids('worker'), $s->pids('loop')), "@before", 'the processes are the same');
is($s->queries, $s->queries(101), 'no poll of them either');
$s->done;
