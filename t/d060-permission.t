#!/usr/bin/env perl
# A database that answers with errors (here: the privilege was taken away) is a database that cannot be polled: stale, one line
# in the log, streams stay; all is well again after the GRANT.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 5, reconcile_interval => '1s', heartbeat => '60m');
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my $f = 'FUNCTION seatcast.changes(bigint, bigint, text)';
$s->sql("REVOKE EXECUTE ON $f FROM seatcast_writer, seatcast_reader");
my $at = time;
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$c->expect_event('stale', within => 6);
cmp_ok($c->{event_seen}{at} - $at, '<', 4.2, '… 3 s after');
$s->client('new')->watch(1, 101)->expect_event('init')->expect_event('stale')->expect_seat(101 => 'AVAILABLE');
$s->pass_time(1);
my @lines = $s->log_text('seatcast') =~ /^(.*permission denied.*)$/mg;
is(scalar(@lines), 1, 'logged once') or diag("  $_") for @lines ? $lines[0] : '';
like($lines[0] // '', qr/permission denied for function changes/, '… in the words of the database');
is($s->http(GET => '/readyz')->{status}, 503, '/readyz: the functions may not be called');

$s->sql("GRANT EXECUTE ON $f TO seatcast_writer, seatcast_reader");
$c->expect_event('fresh', within => 3)->expect_seat(101 => 'HOLD');
is(join(' ', map { $_->{type} } $c->events), 'init stale update fresh', 'what was missed, then fresh; stale was sent once');
$s->sql("SELECT seatcast.confirm(1, 7, '{101}')");
$c->expect_seat(101 => 'OCCUPIED', within => 1);
$s->expect_counter(late_seats => 0)->expect_counter(loop_crashes => 0);
$s->done;
