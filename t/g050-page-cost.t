#!/usr/bin/env perl
# The page with 2,000 seats and 200 changes a second, what a load asks for, and the page under a prefix: t/browser/cost.test.js.
use v5.32;
use warnings;
use File::Temp;
use FindBin;
use lib "$FindBin::Bin/lib";
use Browser;
use Test::More;

browser_needs('chromium');
browser_tests('cost.test.js', undef, cases => 3);
done_testing;
