#!/usr/bin/env perl
# The queue of writes has an end: beyond it buyers are refused at once.  What every buyer meets (a right that is missing) is one
# line in the log, and counted.  A row that somebody else keeps locked: p040.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 400, lighttpd => 0, workers => 1);
my $seats = '/api/matches/1/allocation/seats';
sub hold { my ($name, $seat, $user, %headers) = @_; return $s->client($name)->request(POST => "$seats/$seat/hold", \%headers, "{\"userId\":$user}") }

# ---- the end of the queue ----

$s->http(POST => "$seats/102/hold", {}, { userId => 1 });
$s->pg_freeze;
my @many = map { hold("buyer $_", 150, $_) } 1 .. 300;
$s->wait_for(sub { (grep { $_->{closed} } @many) >= 40 }, 4);
my @refused = grep { ($_->{status} // 0) == 503 } @many;
cmp_ok(scalar @refused, '>=', 40, 'beyond the end of the queue: ' . @refused . ' are refused at once');
is($s->fcgi->request(path => '/healthz')->answer->{status}, 200, '… and the worker answers');
$s->expect_counter(refused_overload => '>=', 40);
$s->pg_thaw;
$s->wait_for(sub { !grep { !$_->{closed} } @many }, 15);
is(scalar(grep { !$_->{closed} } @many), 0, 'everybody hears something');

# ---- one client fills it, and others come ----

$s->{clients} = [];
$s->restart_seatcast('TERM', client_param => 'HTTP_X_FROM');
$s->http(POST => "$seats/102/hold", {}, { userId => 1 });
$s->pg_freeze;
my @greedy = map { hold("greedy $_", 150, 1, 'X-From' => 'greedy') } 1 .. 270;
$s->wait_for(sub { (grep { $_->{closed} } @greedy) >= 10 }, 4);
my @others = map { hold("other $_", 200 + $_, 100 + $_, 'X-From' => "other $_") } 1 .. 20;
$s->expect('twenty of the greedy one give way to others', sub { (grep { $_->{closed} } @greedy) >= 30 });
is(scalar(grep { $_->{closed} } @others), 0, '… who are not refused');
$s->expect_counter(refused_client => 20);
hold('unknown', 180, 9)->expect_closed;
$s->pg_thaw;
$s->wait_for(sub { !grep { !$_->{closed} } @greedy, @others }, 15);
is(join(' ', map { $_->{status} } @others), join(' ', (200) x 20), '… and get their seats');

# ---- one line ----

$s->{clients} = [];
$s->restart_seatcast('TERM', workers => 2, database => $s->pg_conninfo(user => 'seatcast_reader'));
my %status;
$status{$s->http(POST => "$seats/160/hold", {}, { userId => 1 })->{status}}++ for 1 .. 60;
is(join(' ', %status), '503 60', 'the reader role may not hold');
my @lines = $s->log_text('seatcast') =~ /^(.*warn .*request: .*42501.*)$/mg;
is(scalar @lines, 1, 'one line says so');
$s->expect_counter(database_errors => 60);
$s->done;
