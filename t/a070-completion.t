#!/usr/bin/env perl
# bash completes seatcast's options, all that --help has, and the values of those that have few.
# SPDX-License-Identifier: ISC
use strict; use warnings; use Cwd qw(abs_path); use FindBin; use Test::More;

my $src = abs_path($ENV{top_srcdir} // "$FindBin::Bin/..");
my $binary = abs_path($ENV{SEATCAST} // ($ENV{top_builddir} // "$src/build") . '/src/seatcast');
plan(skip_all => 'bash is not installed') if system('bash -c true >/dev/null 2>&1');

# What is offered when the last of these words is being typed.
sub offered {
	my (@words) = @_;
	open my $out, '-|', 'bash', '-c', 'file=$1; shift; . "$file"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _seatcast; printf "%s\n" "${COMPREPLY[@]}"',
		'bash', "$src/etc/seatcast.bash-completion", $binary, @words or die "bash: $!";
	chomp(my @lines = readline $out);
	close $out;
	return join ' ', sort grep { length } @lines;
}
my $help = `'$binary' --help`;
my @options = $help =~ /^  (--[a-z-]+)/mg;
cmp_ok(scalar @options, '>', 20, @options . ' options');
is(offered('--'), join(' ', sort @options), 'all of them are offered');
is(offered('--log-t'), '--log-target', 'what has begun is completed');
is(offered('--log-level', ''), 'debug error info warn', 'the levels');
is(offered('--log-target', '=', 's'), 'stderr syslog', 'the targets, after an equals sign');
is(offered('--listen', '/et'), '/etc', 'paths');
done_testing;
