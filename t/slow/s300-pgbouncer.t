#!/usr/bin/env perl
# 300 groups over 20 server connections: t/h020-pgbouncer.t with as many.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin;
$ENV{SEATCAST_GROUPS} = 300;
exec $^X, "$FindBin::Bin/../h020-pgbouncer.t" or die "h020-pgbouncer.t: $!\n";
