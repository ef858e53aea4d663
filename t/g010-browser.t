#!/usr/bin/env perl
# The page in a real browser (headless Chromium), against the real thing: t/browser/page.test.js says what it promises.
# Screenshots stay in browser-artefacts/ in the build directory.
# SPDX-License-Identifier: ISC
use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Browser;
use Scenario;

browser_needs('chromium');
my $s = Scenario->new(demo => 1, poll_interval => '500ms', linger => '2s');
browser_tests('page.test.js', $s, cases => 24);
$s->done;
