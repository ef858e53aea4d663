#!/usr/bin/env perl
# The model test with sql/changes_updated_at.sql: what a long transaction wrote is shown after the next reconcile at the latest and is counted as late, all
# else within one poll; nothing goes back, and in the end all viewers have the database's state.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use Model;

my $m = Model->new(mode => 'updated_at', reconcile => 5);
$m->run;
ok($m->check, 'every viewer saw the truth, in order, and what was late after one reconcile');
cmp_ok($m->{could_be_late} // 0, '>', 0, 'there were transactions longer than the overlap');
cmp_ok($m->{counter}{late_seats}, '>', 0, 'late seats are counted');
cmp_ok($m->{counter}{late_seats}, '<=', $m->{could_be_late} // 0, '… and no others');
$m->report;
$m->scenario->done;
