#!/usr/bin/env perl
# A server that ends idle sessions (idle_session_timeout) is no trouble: no line in the log, no loss counted, no request that
# fails; who rests has no connection, and opens one when there is something to ask.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 10, lighttpd => 0, start => 0, poll_interval => '100ms', linger => '5m');
if (($s->sql('SHOW server_version_num'))[0][0] < 140000) {
	$s->{stage}->strike;
	plan skip_all => 'PostgreSQL 13 has no idle_session_timeout';
}
$s->sql("ALTER ROLE seatcast_writer SET idle_session_timeout = '250ms'");
$s->start_seatcast;
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my $sessions = sub { my ($r) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'seatcast_writer'"); return $r->[0] };
$s->expect('workers rest without a connection, the loop polls', sub { $sessions->() == 1 }, 10);
for my $n (1 .. 4) {
	is($s->http(POST => "/api/matches/1/allocation/seats/10$n/hold", {}, { userId => 7 })->{status}, 200, "a write after a rest ($n)");
	$c->expect_seat("10$n" => 'HOLD', within => 2);
	$s->pass_time(0.15 * $n);		# also at the moment when the server ends the session
}
$c->close;
$s->expect('nobody looks: the loop rests too', sub { $sessions->() == 0 }, 10);
my $d = $s->client('later')->watch(1, 101)->expect_event('init', within => 2);
$s->sql("SELECT seatcast.confirm(1, 7, '{101}')");
$d->expect_seat(101 => 'OCCUPIED', within => 2);
is(scalar(my @stale = $d->events('stale')), 0, 'never stale');
$s->expect_counter(database_losses => 0);
$s->done;
