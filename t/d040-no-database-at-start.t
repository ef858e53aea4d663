#!/usr/bin/env perl
# Without a database seatcast starts and says so: /healthz 200, /readyz 503; a stream waits 5 s and is refused politely.
# When the database comes, everything works, without a restart.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 5, start => 0);
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$s->pg_stop;
$s->restart_seatcast;
ok($s->pid('seatcast'), 'it starts');
my $a = $s->http(GET => '/healthz');
is("$a->{status} $a->{body}", '200 ok', '/healthz');
my $begin = time;
my $fan = $s->client('fan')->watch(1, 101);
my $plain = $s->client('plain')->watch(1, 101, Accept => undef);
my $snapshot = $s->client('snapshot')->get($s->snapshot_path(1, 102));
is_error($s->http(GET => '/readyz'), '/readyz');
is_error($s->http(GET => '/api/site/areas'), 'the site');
is_error($s->http(POST => '/api/matches/1/allocation/seats/101/hold', {}, { userId => 7 }), 'allocation');
$s->in_time(time - $begin, 5, '… at once');

sub is_error {
	my ($r, $says) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($r->{status}, 503, "$says: 503");
	like($r->{body}, qr/\A\{"status":503,"message":"[^"]+"\}\z/, '… the envelope');
	like($r->{headers}{'retry-after'} // '', qr/\A[1-9]\d*\z/, '… Retry-After');
	return;
}

$fan->expect_event('busy', within => 8)->expect_closed(how => 'clean');
my $took = $fan->{event_seen}{at} - $begin;
is($fan->{status}, 200, 'a stream: 200 and busy');
ok($took > 4.5 && $took < 6.5, sprintf '… after 5 s: %.1f', $took);
ok($fan->{retry} >= 10_000 && $fan->{retry} <= 20_000, "… retry $fan->{retry}");
is_error($plain->expect_closed(within => 2), 'without Accept');
is_error($snapshot->expect_closed(within => 2), 'a snapshot');
is(scalar($s->pids('loop')), 0, 'no loop was made');

# It comes while two wait.
my @wait = map { $s->client("waits $_")->watch(1, 100 + $_) } 1, 2;
$s->pass_time(0.5);
is(scalar(map { $_->events } @wait), 0, 'the next ones wait');
$s->pg_start;
$_->expect_event('init', within => 5) for @wait;
$wait[0]->expect_seat(101 => 'HOLD');
$s->expect('/readyz is 200', sub { $s->http(GET => '/readyz')->{status} == 200 });
$fan->reconnect->expect_event('init');
$s->sql("SELECT seatcast.hold(1, 102, 7, '5m')");
$_->expect_seat(102 => 'HOLD', within => 1) for $fan, $wait[0];
$s->expect('and allocation works', sub { $s->http(POST => '/api/matches/1/allocation/seats/103/hold', {}, { userId => 7 })->{status} == 200 });
$s->expect('… the site too, whichever worker is asked', sub { $s->http(GET => '/api/site/areas')->{status} == 200 });
is($s->http(GET => $s->snapshot_path(1, 102))->{status}, 200, '… and snapshots');
$s->expect_counter(worker_restarts => 0);
$s->done;
