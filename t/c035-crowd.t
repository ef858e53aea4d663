#!/usr/bin/env perl
# When a sale opens nobody is refused because many come at once: what the master can't take yet waits.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $CROWD = 900;
my $s = Scenario->new(seats => 4, lighttpd => 0, workers => 1, heartbeat => '60m', pg => { log_statement => 'none' });
$s->client('first')->watch(1, 101)->expect_event('init');
my $master = $s->pid('seatcast');
kill STOP => $master;
my @crowd = map { $s->client("viewer $_")->watch(1, 101) } 1 .. $CROWD;
# The worker has read all requests when it answers one that came after them.
is($s->http(GET => '/healthz')->{status}, 200, 'a worker answers while the master does nothing');
kill CONT => $master;
$s->expect("$CROWD viewers have the block", sub { !grep { !$_->events('init') && !$_->events('busy') && !$_->{closed} } @crowd }, 20);
is(scalar(grep { $_->events('busy') || $_->{closed} } @crowd), 0, 'none of them was told to come back later');
$s->expect_counter(refused_overload => 0);
$s->done;
