#!/usr/bin/env perl
# SPEC 1: a browser gives up for good on any status but 200.  Of the viewers who wait for a database that does not answer, one
# is refused; then the loop dies.  The others had not begun: they are saved, and told what they wait for.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI;

my $s = Scenario->new(seats => 5);
my $t = $s->session;
$t->query('BEGIN; LOCK TABLE allocations IN ACCESS EXCLUSIVE MODE');

my $first = $s->client('first')->watch(1, 101);
$s->expect_counter(connections => 1);
$s->pass_time(3);
my @rest = map { $s->client("waiting $_")->watch(1, 101) } 1 .. 3;
$s->expect_counter(connections => 4);
my $aborted = $s->fcgi->request(path => $s->stream_path(1, 101), headers => { Accept => 'text/event-stream' });
$s->expect_counter(connections => 5);
$aborted->send(fcgi_record(FCGI_ABORT_REQUEST, ''));
ok($aborted->closes(2), 'one that does not want to wait any more is let go');
$first->expect_event('busy', within => 5);
$first->expect_closed(how => 'clean');
is(scalar(grep { defined $_->{status} } @rest), 0, 'the others wait');
$s->pass_time(0.3);		# the master looks every 50 ms for whom it need not keep any more
kill 'KILL', $s->pids('loop 1/101');
$_->expect_status(200, within => 10) for @rest;
$_->expect_event('busy', within => 10) for @rest;
$t->query('ROLLBACK');
$_->reconnect->expect_event('init', within => 10) for $first, @rest;
$s->done;
