#!/usr/bin/env perl
# seatcast.js, SeatStream and MatchStream, in headless Chromium against the real thing: t/browser/client.test.js.
# SPDX-License-Identifier: ISC
use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Browser;
use Scenario;

browser_needs('chromium');
my $s = Scenario->new(demo => 1, poll_interval => '500ms');
browser_tests('client.test.js', $s, cases => 17);
$s->done;
