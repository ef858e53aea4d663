#!/usr/bin/env perl
# The page and seatcast.js in Firefox, against the real thing: t/browser/firefox.test.js.
use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Browser;
use Scenario;

browser_needs('firefox', 'puppeteer-core');
my $s = Scenario->new(demo => 1, poll_interval => '500ms');
browser_tests('firefox.test.js', $s, cases => 6);
$s->done;
