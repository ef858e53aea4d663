#!/usr/bin/env perl
# Two minutes of bench/soak.pl, with half of its viewers and changes: faults, quiet moments, nothing grows.  The whole of it is make soak.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use Test::More;

my $dir = "$FindBin::Bin/../..";
$ENV{top_srcdir} //= $dir;
$ENV{SOAK_SECONDS} //= 120;
$ENV{SOAK_VIEWERS} //= 1000;
$ENV{SOAK_CHURN} //= 50;
$ENV{SOAK_CHANGES} //= 250;
open my $soak, '-|', $^X, "$dir/bench/soak.pl" or die "soak: $!";
while (<$soak>) {
	chomp;
	if (/^ *[\d.]+ +(ok|NOT OK) +(.*)/) { ok($1 eq 'ok', $2) } else { note($_) }
}
close $soak;
is($?, 0, 'all is well');
done_testing();
