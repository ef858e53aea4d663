#!/usr/bin/env perl
# The quick ones of slow/s100-database-faults.t: a crash of the server, terminated again and again, an error and a missing function.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin;
@ARGV = ('kill -9', 'terminate', 'disk full', 'missing') if !@ARGV;
my $ok = do "$FindBin::Bin/slow/s100-database-faults.t";
die $@ if $@;
1;
