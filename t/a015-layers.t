#!/usr/bin/env perl
# The wings of src/: master, worker and loop include nothing of each other; shared includes wire and base, wire includes
# base, base nothing of ours; and no files of a wing include each other in a circle.
# SPDX-License-Identifier: ISC
use strict;
use warnings;
use FindBin;
use File::Glob ':bsd_glob';	# a path may have a blank
use Test::More;

my $src = ($ENV{top_srcdir} // "$FindBin::Bin/..") . '/src';
my %rank = (base => 0, wire => 1, shared => 2, loop => 3, worker => 3, master => 3);

my (%includes, @wrong);
for my $file (glob "$src/{,*/}*.[ch]") {
	my $name = substr $file, 1 + length $src;
	open my $fh, '<', $file or die "$file: $!";
	$includes{$name} = [grep { $_ !~ m{^(?:config|commit)\.h\z} } map { /^#include "([^"]+)"/ ? $1 : () } readline $fh];
	for my $to (@{$includes{$name}}) {
		push @wrong, "$name includes $to, which is not there" if !-e "$src/$to";
		my ($from_wing, $to_wing) = map { m{(.*)/} ? $1 : '' } $name, $to;
		next if $from_wing eq $to_wing || $from_wing eq '';	# main and checkup stand above the wings
		push @wrong, "$name includes $to" if !defined $rank{$to_wing} || $rank{$to_wing} >= $rank{$from_wing};
	}
}
cmp_ok(keys %includes, '>', 60, 'sources were found');
is(join("\n", @wrong), '', 'nothing includes upwards or across');

# One name, one room: a header is found by its name alone.
my %rooms;
$rooms{m{([^/]+)\z} ? $1 : ''}++ for keys %includes;
is(join(' ', grep { $rooms{$_} > 1 && /\.h\z/ } sort keys %rooms), '', 'no two headers have the same name');

# A module is a .c and its .h: m uses n when either of m's files includes n.h.
my %uses;
for my $file (keys %includes) {
	my $module = $file =~ s/\.[ch]\z//r;
	$uses{$module}{s/\.h\z//r} = 1 for @{$includes{$file}};
	delete $uses{$module}{$module};
}
my (%state, @circles);
sub visit {
	my ($module, @path) = @_;
	return push @circles, join ' -> ', @path, $module if ($state{$module} // '') eq 'open';
	return if $state{$module};
	$state{$module} = 'open';
	visit($_, @path, $module) for sort keys %{$uses{$module} // {}};
	$state{$module} = 'done';
}
visit($_) for sort keys %uses;
is(join("\n", @circles), '', 'no circle');

done_testing;
