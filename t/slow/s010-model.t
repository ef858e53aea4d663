#!/usr/bin/env perl
# SPEC 2, promises 1 to 3, under concurrency: random transactions and random viewers; every viewer sees each seat's states in
# order, each state that lasts in time, and the database's state in the end (lib/Model.pm has the rules).  No seat is late.
#	SEED=7 MODEL_SECONDS=300 MODEL_LIGHTTPD=1 perl t/slow/s010-model.t	that run again, longer, through lighttpd
#	MODEL_BREAK=gt perl t/slow/s010-model.t			a cursor that loses commits (gt, own, xmax, torn, rewrite): fails
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use Model;

my $m = Model->new;
$m->run;
ok($m->check, 'every viewer saw the truth, in order and in time');
is($m->{counter}{late_seats}, 0, 'no seat was found by a reconcile only');
cmp_ok($m->{counter}{reconciles}, '>', 4, '… and there were reconciles');
cmp_ok($m->{count}{states}, '>', 5 * $m->{seconds}, 'enough happened');
cmp_ok($m->{count}{resumes}, '>', 0, 'viewers came back');
cmp_ok($m->{counter}{conflations}, '>', 0, 'viewers stalled so long that what they missed was conflated') if $m->{seconds} >= 60 && !$m->{lighttpd};
$m->report;
$m->scenario->done;
