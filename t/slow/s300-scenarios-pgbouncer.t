#!/usr/bin/env perl
# The ordinary scenarios with a PgBouncer (transaction pooling) between seatcast and PostgreSQL: all pass as they do without.
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib"; use Test::More; use Deploy;

plan skip_all => 'pgbouncer is not installed' if !have('pgbouncer');
$ENV{SEATCAST_PGBOUNCER} = 1;		# Stage.pm does the rest
# c020 counts the server's connections: here they stay, being the pool's.
my @files = grep { !m{/c020-} } sort map { glob "$FindBin::Bin/../$_*.t" } qw(b c d010 d020 d030);
cmp_ok(scalar(@files), '>=', 14, scalar(@files) . ' scenarios');
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
	ok($? == 0 && $planned && $planned == $passed || $tap =~ /^1\.\.0 # SKIP/m, "$name: $passed passed") or diag $tap;
}
done_testing;
