#!/usr/bin/env perl
# seatcast_stale is worth an alarm, so it ends with the outage: also when the last viewer left while the group was stale, the
# database came back while nobody looked, and a new viewer came then.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 5, lighttpd => 0, poll_interval => '200ms', linger => '5m');
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
is($s->counter('stale'), 0, 'not stale at first');
$s->pg_stop('fast');
$c->expect_event('stale', within => 8);
is($s->counter('stale'), 1, 'stale while the database is away');
$c->close;
$s->expect('nobody looks any more', sub { $s->counter('connections') == 0 }, 5);
my ($polls, $failed) = map { $s->counter($_) } qw(polls polls_failed);
$s->wait_for(sub { $s->counter('polls_failed') > $failed }, 6);		# the poll that still waited for a connection
$s->pg_start;
$s->expect_log(qr/loop 1\/101: database: back/, within => 10);
is($s->counter('polls'), $polls, 'the database is back, and nobody has asked it');
my $d = $s->client('later')->watch(1, 101)->expect_event('init');
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$d->expect_seat(101 => 'HOLD', within => 2);
is($s->counter('stale'), 0, 'polled again: not stale');
is(scalar(my @stale = $d->events('stale')), 0, '... and the new viewer was never told so');
$s->done;
