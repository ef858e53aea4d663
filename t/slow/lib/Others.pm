# SPDX-License-Identifier: ISC
package Others;

# The ordinary scenarios in other surroundings: each is a program of its own, told by its environment (see t/README).

use v5.32;
use warnings;
use Exporter qw(import);
use FindBin;
use Test::More;

our @EXPORT = qw(scenarios scenarios_pass);

# Files of t/ by the beginnings of their names, without those that cannot pass there: { c020 => 'why' }.
sub scenarios {
	my ($not, @begin) = @_;
	return grep { my ($name) = m{/(\w+)-[^/]*$}; !$not->{$name} } sort map { glob "$FindBin::Bin/../$_*.t" } @begin;
}

# Two at a time; one result each, and all that it said if it fails.
sub scenarios_pass {
	my ($where, @files) = @_;
	my %running;
	while (@files || %running) {
		while (@files && keys %running < 2) {
			my $file = shift @files;
			open $running{$file}, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', $^X, $file or die "$file: $!\n";
		}
		my ($file) = sort keys %running;
		my $out = delete $running{$file};
		my $tap = join '', readline $out;
		close $out;
		my ($name) = $file =~ m{([^/]+)\.t$};
		my ($planned) = $tap =~ /^1\.\.(\d+)/m;
		my $passed = () = $tap =~ /^ok /mg;
		ok($? == 0 && $planned && $planned == $passed || $tap =~ /^1\.\.0 # SKIP/m, "$where: $name: $passed passed") or diag $tap;
	}
	return;
}

1;
