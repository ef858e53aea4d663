#!/usr/bin/env perl
# A changed seat costs no more than twice what doc/performance.md says, as a ratio to the least that sending the same bytes
# can cost: processor time, both measured here, one after the other.  And nobody misses an event meanwhile.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Stage; use Test::More;

my $src = $ENV{top_srcdir} // "$FindBin::Bin/..";
my $build = $ENV{top_builddir} // "$src/build";
my ($files) = Stage::slurp('/proc/self/limits') =~ /^Max open files\s+\d+\s+(\d+)/m;
plan skip_all => 'bench/viewers and bench/floor are not built' if grep { !-x "$build/bench/$_" } qw(viewers floor);
plan skip_all => 'this kernel does not count processor time in /proc/PID/schedstat' if !((split ' ', Stage::slurp('/proc/self/schedstat'))[0] // 0);
plan skip_all => "2,000 streams need more than the $files descriptors that a process may have here" if ($files // 1e9) =~ /^\d+$/ && ($files // 1e9) < 10000;
plan skip_all => 'seatcast under a tool costs what the tool costs' if $ENV{SEATCAST_WRAP} || $build =~ /sanitizers/;
delete @ENV{qw(SEATCAST_SERVER SEATCAST_PGBOUNCER)};

my $says = `'$^X' '$src/bench/table.pl' --short 2>&1`;
my $status = $?;
diag($says =~ s/\n+\z//r) if $status;
my @lines = $says =~ /^((?:NOT OK|ok) \w+ seatcast: .*)$/mg;
is(scalar(@lines), 2, 'two rows were measured');
like($_, qr/^ok/, $_) for @lines;
is($status, 0, 'and every viewer had every event, once and in order');
done_testing;
