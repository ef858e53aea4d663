#!/usr/bin/env perl
# seatcast.js as a package of npm's: typed, packed, installed into an empty project, as small as it says.
# SPDX-License-Identifier: ISC
use v5.32;
use warnings;
use File::Temp;
use FindBin;
use lib "$FindBin::Bin/lib";
use Browser;
use Test::More;

browser_needs('typescript', 'esbuild');
browser_tests('package.test.js', undef, cases => 5);
done_testing;
