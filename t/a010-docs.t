#!/usr/bin/env perl
# The manual has every option of --help, every counter of board_tbl.h and every warning of the source, and no option or
# counter that does not exist.
# SPDX-License-Identifier: ISC
use strict;
use warnings;
use FindBin;
use File::Glob ':bsd_glob';	# a path may have a blank
use Test::More;

my $src = $ENV{top_srcdir} // "$FindBin::Bin/..";
my $build = $ENV{top_builddir} // "$src/build";
my $binary = $ENV{SEATCAST} // "$build/src/seatcast";

sub slurp {
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	return readline($fh) // '';
}

my $manual = slurp("$src/man/seatcast.8");
ok(length $manual, 'there is a manual, man/seatcast.8');

my $help = `'$binary' --help 2>&1`;
is($?, 0, 'seatcast --help exits 0');
my %offered = map { $_ => 1 } $help =~ /^\s*--([a-z][a-z-]+)/mg;
ok(keys %offered > 10, 'it prints options');
my %described = map { $_ => 1 } map { /\bFl\s+(?:Fl\s+|\\?-)([a-z](?:\\?-|[a-z])+)/g } grep { /^\.It\b/ } split /\n/, $manual;
s/\\-/-/g for keys %described;
is(join(' ', grep { !$described{$_} } sort keys %offered), '', 'every option of --help is an item of the manual');
is(join(' ', grep { !$offered{$_} } sort keys %described), '', 'every option of the manual is in --help');

# What /metrics calls the rows of board_tbl.h: KIND and UNIT end the name.
my %unit = (NUMBER => '', BYTES => '_bytes', MILLISECONDS => '_seconds', MICROSECONDS => '_seconds');
my %exported;
for (slurp("$src/src/shared/board_tbl.h") =~ /^BOARD\((\w+, \w+, \w+),/mg) {
	my ($name, $kind, $unit) = split /, /;
	$exported{"seatcast_$name$unit{$unit}" . ($kind eq 'COUNTER' ? '_total' : '')} = 1 if $kind ne 'PRIVATE';
}
ok(keys %exported > 10, 'board_tbl.h has counters');
is(join(' ', grep { $manual !~ /\b$_\b/ } sort keys %exported), '', 'every counter is in the manual');
is(join(' ', grep { $manual !~ /^\.It Li $_$/m } slurp("$src/src/shared/refusal_tbl.h") =~ /^REFUSAL\(\w+, (\w+),/mg), '', 'so is every reason of a refusal');
my %made = map { $_ => 1 } slurp("$src/src/worker/monitor.c") =~ /\b(?:describe|histogram)\(&?b, "(\w+)"/g;	# what /metrics computes
is(join(' ', grep { !$exported{$_} && !$made{s/\Aseatcast_//r} } sort $manual =~ /^\.It\b.*?\b(seatcast_\w+)/mg), '',
	'every counter of the manual is in /metrics');

# Log lines for an operator: of each format the longest piece without a conversion.
(my $plain = $manual) =~ s/\s+/ /g;
my @unsaid;
for my $file (glob "$src/src/{,*/}*.c") {
	my $text = slurp($file);
	while ($text =~ /\b(?:log_warnx?\(|fatalx?\(|log_warnx_seldom\(&[^,]+,)((?:\s*"(?:[^"\\]|\\.)*")+)/g) {
		my $format = join '', $1 =~ /"((?:[^"\\]|\\.)*)"/g;
		my ($piece) = sort { length $b <=> length $a } split /%[-0-9.*lz]*[a-zA-Z]/, $format;
		next if !defined $piece;	# "%s": the text is made elsewhere
		$piece =~ s/\A[\s:(]+|[\s:(]+\z//g;
		push @unsaid, $format if index($plain, $piece) < 0;
	}
}
is(join("\n", @unsaid), '', 'every warning and fatal error of the source is in the manual');

# Both READMEs have the same command lines; what stands after # is prose.
my ($english, $korean) = map { join '', map { s/\s+#.*//r } slurp("$src/$_") =~ /^ {4}(?:\.\/|apt-get|runuser|sed|echo|cp|make|systemctl|systemd-run|lighttpd-|lighttpd -|curl|rm).*\n(?: {8}.*\n)?/mg } qw(README README.ko);
is($korean, $english, 'README.ko has the commands of README');

SKIP: {
	my $lint = `mandoc -T lint -W warning '$src/man/seatcast.8' 2>&1`;
	skip 'mandoc is not installed', 1 if $? == -1 || $? >> 8 == 127;
	is($lint, '', 'mandoc finds nothing to complain about');
}

done_testing;
