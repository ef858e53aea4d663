#!/usr/bin/env perl
# doc/models: every way that a hand-over and a cursor can go, searched to the end by spin; and the models are able to fail.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use File::Copy qw(copy); use File::Temp qw(tempdir); use Test::More; use Time::HiRes qw(time);

my $src = $ENV{top_srcdir} // "$FindBin::Bin/..";
plan skip_all => 'nothing to sanitize' if ($ENV{top_builddir} // '') =~ /sanitizers/;
plan skip_all => 'spin is not installed' if system('spin -V >/dev/null 2>&1') != 0;
my $dir = tempdir('seatcast-models-XXXXXX', TMPDIR => 1, CLEANUP => 1);

# What pan found: errors, states.
sub search {
	my ($model, $mutant) = @_;
	my $flag = $mutant ? "-D$mutant" : '';
	my $out = `cd $dir && spin -a $flag $model.pml >spin.out 2>&1 && cc -O2 -DSAFETY -w -o pan pan.c 2>&1 && ./pan -E -m1000000 2>&1`;
	my ($errors) = $out =~ /errors: (\d+)/;
	my ($states) = $out =~ /(\S+) states, stored/;
	diag($out) unless defined $errors;
	diag('the search was cut short') if $out =~ /max search depth too small|out of memory/;
	return ($out =~ /max search depth too small|out of memory/ ? undef : $errors, $states);
}

for my $model (qw(handover cursor)) {
	copy("$src/doc/models/$model.pml", $dir) or die "$model.pml: $!";
	open my $in, '<', "$dir/$model.pml" or die $!;
	my $text = do { local $/; <$in> };
	my ($head) = $text =~ m{\A/\*(.*?)\*/}s;
	my %mutants = map { $_ => 1 } $text =~ /^#ifn?def (\w+)/mg;
	my $began = time;
	my ($errors, $states) = search($model);
	is($errors, 0, sprintf '%s: no error in %s states, %.0f s', $model, $states // '?', time - $began);
	cmp_ok($states // 1e9, '<', 5e6, '... which is less than a minute');
	for my $mutant (sort keys %mutants) {
		like($head, qr/\b$mutant\b/, "$model: $mutant is explained");
		my ($found) = search($model, $mutant);
		cmp_ok($found // 0, '>', 0, "... and found");
	}
}
done_testing;
