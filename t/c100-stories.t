#!/usr/bin/env perl
# SPEC 2, what a viewer is promised, in a million simulated seconds with more than twenty kinds of faults (t/sim/README).
#	SIM_SEEDS=1-2000 perl t/c100-stories.t		others; a story that fails is told in a few lines
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use Test::More; use Time::HiRes qw(time);

my $sim = ($ENV{top_builddir} // "$FindBin::Bin/../build") . '/t/sim/sim';
plan skip_all => "$sim: not built (make check builds it)" unless -x $sim;
my ($first, $last) = split m{-}, $ENV{SIM_SEEDS} // ($sim =~ /sanitizers/ ? '1-100' : '1-500');	# with sanitizers five times as slow
my $began = time;

# Two at a time: each seed is on its own.
my @halves = map { { seeds => $_, out => '' } } "$first-" . int(($first + $last) / 2), int(($first + $last) / 2) + 1 . "-$last";
open $_->{pipe}, '-|', $sim, '--seeds', $_->{seeds} or die "$sim: $!" for @halves;
for my $h (@halves) {
	my $pipe = $h->{pipe};
	$h->{out} = do { local $/; <$pipe> };
	close $pipe;
	my $ok = $? == 0;
	ok($ok, "stories $h->{seeds} keep the promises");
	$ok ? note($h->{out}) : diag($h->{out});
	my ($faults) = $h->{out} =~ /(\d+) kinds of faults/;
	cmp_ok($faults // 0, '>=', 15, 'in many kinds of trouble');
}
note(sprintf '%.0f s', time - $began);
done_testing;
