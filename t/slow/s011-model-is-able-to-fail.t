#!/usr/bin/env perl
# The model test notices a cursor that loses commits: each of these is put into the database in the place of the good one.
#	gt	changed_xid > and not >=: the first transaction after the snapshot is forgotten, and who was running
#	own	this poll's snapshot as the bound instead of the one before it
#	xmax	all that were running when the snapshot was taken are forgotten
#	torn	the cursor comes from a later snapshot than the rows: only with MODEL_BREAK=torn, since it loses so few
#		commits that chance could let a run pass
#	rewrite	a table that was rewritten under a poll is believed to be empty: only with MODEL_BREAK=rewrite, for the same reason
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use Model;

for my $how (split m{,}, $ENV{MODEL_BREAK} // "gt,own,xmax") {
	subtest $how => sub {
		my $m = Model->new(break => $how, settle => 0, quietly => 1, $how eq 'torn' ? (seconds => 20, poll => 0.3) : (seconds => 15));
		$m->run;
		ok(!$m->check, 'the checker complains');
		my @stable = $m->violations('stable');
		cmp_ok(scalar @stable, '>', 0, 'states were not shown in time');
		is(join("\n", map { $_->{says} } grep { $_->{rule} eq 'stream' } $m->violations), '', 'and nothing else was wrong with the streams');
		$m->report;
		diag("for example: $stable[0]{says}") if @stable;
		$m->scenario->done;
	};
}
done_testing;
