#!/usr/bin/env perl
# One client can't take what is there for all: streams and groups of one client have an end (--max-streams-per-client, --max-groups-per-client),
# and when everything is taken, a loop that is there for a client with many gives way to one that has none.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 5, lighttpd => 0, max_groups => 4, max_streams_per_client => 6, max_groups_per_client => 0, client_param => 'HTTP_X_FROM', linger => '300ms');
$s->sql("INSERT INTO matches (id, name) SELECT n, n FROM generate_series(2, 20) AS n");
sub come { my ($who, $match) = @_; return $s->client("$who at match $match")->watch($match, 101, 'X-From' => $who) }

# Streams
my @six = map { come('greedy', 1)->expect_event('init') } 1 .. 6;
come('greedy', 1)->expect_event('busy')->expect_closed;
is($s->http(GET => $s->stream_path(1, 101), { 'X-From' => 'greedy', Accept => 'text/plain' })->{status}, 503, 'without Accept: 503');
$s->expect_counter(refused_client => 2);
my $other = come('other', 1)->expect_event('init');
is($s->http(GET => $s->snapshot_path(1, 101), { 'X-From' => 'greedy' })->{status}, 200, 'a snapshot is no stream');
(pop @six)->close;
my $again;
$s->expect('one ends: the next is served', sub { ($again = come('greedy', 1)) && $s->wait_for(sub { ($again->events)[0] }, 2) && ($again->events)[0]{type} eq 'init' });
my @unknown = map { $s->client("unknown $_")->watch(1, 101)->expect_event('init') } 1 .. 8;
pass('who is not known is not limited');
$_->close for @six, $again, $other, @unknown;
$s->expect('all are gone', sub { !$s->pids('loop') });

# Groups: the greedy one takes all there are, of blocks and of matches
my @greedy;
$s->restart_seatcast('TERM', max_streams_per_client => 0);
push @greedy, come('greedy', $_)->expect_event('init') for 1 .. 8;
is(scalar($s->pids('loop')), 8, 'one client has all loops');
my @ordinary = map { come("ordinary $_", 8 + $_)->expect_event('init') } 1 .. 4;
is(scalar(grep { $_->{closed} } @greedy), 4, 'four others come: four of his give way');
is($s->counter('gave_way'), 4, '… which is counted');
is(scalar(grep { $_->{closed} && $_->{closed} ne 'clean' } @greedy), 0, '… politely');
my $refused = $s->counter('refused_groups');
come('greedy', 20)->expect_event('busy')->expect_closed;
is($s->counter('refused_groups'), $refused + 1, 'he is refused');
is(scalar(grep { $_->{closed} } @ordinary), 0, '… and takes nothing from them');
$_->expect_silence(0.3) for $ordinary[0];
$_->close for @greedy, @ordinary;
$s->expect('all are gone', sub { !$s->pids('loop') });

# All streams there are: the newest of who has most gives way to who would have fewer
$s->restart_seatcast('TERM', max_streams => 6);
@greedy = map { come('greedy', 1)->expect_event('init') } 1 .. 6;
@ordinary = map { come("ordinary $_", 1)->expect_event('init') } 1 .. 5;
is(join(' ', map { $_->{closed} // 'open' } @greedy), 'open clean clean clean clean clean', 'five others come: five of his six streams give way, the newest first');
like($greedy[5]->{body}, qr/\nretry: \d+\n/, '… told when to come back') or diag($greedy[5]->{body});
$s->expect_counter(streams_gave_way => 5);
come('greedy', 1)->expect_event('busy')->expect_closed;
come('ordinary 6', 1)->expect_event('busy')->expect_closed;
$s->client('unknown')->watch(1, 101)->expect_event('busy')->expect_closed;
$s->expect_counter(refused_streams => 3, streams_gave_way => 5, viewers => 6);
$_->close for @greedy, @ordinary;
$s->expect('all are gone', sub { !$s->pids('loop') });

# A limit of its own for groups
$s->restart_seatcast('TERM', max_streams => 100, max_groups_per_client => 2);
@greedy = map { come('greedy', $_)->expect_event('init') } 1 .. 2;
come('greedy', 3)->expect_event('busy')->expect_closed;
$s->expect_counter(refused_client => 1);
come('other', 3)->expect_event('init');
push @greedy, come('greedy', 3)->expect_event('init');
pass('a group that is there for others costs nothing');
$s->done;
