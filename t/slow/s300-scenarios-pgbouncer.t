#!/usr/bin/env perl
# The ordinary scenarios with a PgBouncer (transaction pooling) between seatcast and PostgreSQL: all pass as they do without.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Test::More; use Deploy; use Others;

plan skip_all => 'pgbouncer is not installed' if !have('pgbouncer');
$ENV{SEATCAST_PGBOUNCER} = 1;		# Stage.pm does the rest
my @files = scenarios({ c020 => "it counts the server's connections, which stay here, being the pool's" }, qw(b c d010 d020 d030));
cmp_ok(scalar(@files), '>=', 14, scalar(@files) . ' scenarios');
scenarios_pass('PgBouncer', @files);
done_testing;
