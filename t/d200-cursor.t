#!/usr/bin/env perl
# What a poll reads: what was written since the last one and nothing else, of a block and of a match, also beside a transaction that stays open for an hour, in savepoints and after
# PREPARE TRANSACTION; by an index, whatever the statistics say, and also if the plan was made when the table was empty.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 1, pg => { autovacuum => 'off', max_prepared_transactions => 5 });
my ($db, $poller) = ($s->session, $s->session(user => 'seatcast_reader'));
# A connection that has planned its polls while there was nothing, and statistics said so.
$db->query($_) for 'DELETE FROM allocations', 'VACUUM (ANALYZE) allocations', 'VACUUM (ANALYZE) seats';
$poller->query("SELECT * FROM seatcast.$_") for map { ($_) x 7 } 'changes(1, 201, NULL)', q{changes(1, 201, '3:@0/0')}, 'match_changes(1, NULL)', q{match_changes(1, '3:@0/0')}, 'snapshot(1, 201)';
$db->query(<<~'SQL');
	INSERT INTO blocks (id, section_id, name) SELECT i, 1, i FROM generate_series(201, 300) i;
	INSERT INTO seats (id, block_id, row_number, seat_number) SELECT 10000 + i, 201 + i / 400, 1, i FROM generate_series(0, 39999) i;
	INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'AVAILABLE' FROM seats WHERE id >= 10000;
	SQL
my %cursor;
sub poll {	# the seats that the next poll brings, of a block and of the match
	my %got;
	for my $call ('changes(1, 201, %s)', 'match_changes(1, %s)') {
		my @rows = $poller->query(sprintf "SELECT seat_id, status, next_cursor FROM seatcast.$call", defined $cursor{$call} ? "'$cursor{$call}'" : 'NULL');
		$cursor{$call} = (pop @rows)->[2];
		$got{$call} = join ' ', map { $_->[0] - 10000 . substr $_->[1], 0, 1 } @rows;
	}
	return join ' | ', map { $got{$_} } sort keys %got;
}
sub write_ { my ($seat, $status, $t) = @_; ($t // $db)->query("UPDATE allocations SET status = '$status' WHERE match_id = 1 AND seat_id = " . (10000 + $seat)); return }
# Buffers that a poll of each kind touches now, which no machine's load changes.
sub buffers { return map { my $call = $_; my ($plan) = $poller->query("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) SELECT * FROM seatcast.$call"); my $n = 0;
	for ($poller->query("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) SELECT * FROM seatcast.$call")) { $n += $1 if $_->[0] =~ /Buffers: shared hit=(\d+)/ && !$n } $n } map { sprintf $_, "'$cursor{$_}'" } 'changes(1, 201, %s)', 'match_changes(1, %s)' }
sub few { my ($says) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; $db->query('SELECT pg_current_xact_id()'); my ($block, $match) = buffers(); cmp_ok($block, '<', 60, "$says: a block's poll touches $block pages"); cmp_ok($match, '<', 60, "… a match's, of 40,000 seats, $match"); return }

poll();
is(poll(), ' | ', 'nothing new');
few('planned when the table was empty');
write_(1, 'HOLD'); write_(500, 'OCCUPIED');
is(poll(), '1H | 1H 500O', 'two seats of two blocks');
is(poll(), ' | ', '… once');
$db->query('ANALYZE');
few('analyzed, after one bulk load');

# An hour of changes beside a transaction that has written and stays open.
my $open = $s->session;
$open->query("BEGIN; INSERT INTO matches VALUES (99, 'x')");
poll();
$db->query("DO \$\$ BEGIN FOR i IN 1..30 LOOP UPDATE allocations SET status = CASE i % 2 WHEN 0 THEN 'AVAILABLE' ELSE 'HOLD' END WHERE match_id = 1 AND block_id = 201; COMMIT; END LOOP; END \$\$");
is(scalar(split ' ', (split / \| /, poll())[0]), 400, 'an hour of changes beside an open transaction: they come');
is(poll(), ' | ', '… once');
write_(2, 'OCCUPIED');
is(poll(), '2O | 2O', '… and then what is new');
like($cursor{'changes(1, 201, %s)'}, qr/^\d+:\d+@/, '… the transaction is in the cursor');
write_(3, 'OCCUPIED', $open);
is(poll(), ' | ', 'what it writes is not shown');
$open->query('SAVEPOINT a'); write_(4, 'HOLD', $open); $open->query('ROLLBACK TO a; SAVEPOINT b'); write_(5, 'HOLD', $open);
write_(6, 'HOLD');
is(poll(), '6H | 6H', '… nor in savepoints, while others commit');
$open->query("PREPARE TRANSACTION 'late'");
is(poll(), ' | ', '… nor when it is prepared');
$db->query("COMMIT PREPARED 'late'");
is(poll(), '3O 5H | 3O 5H', '… and all of it when it commits');
is(poll(), ' | ', '… once');

# Many that are running: the oldest are listed, and nothing is lost of the others.
my @many = map { $s->session } 1 .. 60;
for my $i (0 .. $#many) { $many[$i]->query('BEGIN'); write_(20 + $i, 'OCCUPIED', $many[$i]) }
is(poll(), ' | ', 'sixty are running');
cmp_ok(scalar(() = $cursor{'changes(1, 201, %s)'} =~ /,/g), '<', 50, '… the cursor has the oldest of them');
my @late = map { 20 + $_ } 0, 30, 49, 50, 51, 59;
$many[$_ - 20]->query('COMMIT') for @late;
is(poll(), join(' | ', (join ' ', map { "${_}O" } @late) x 2), 'those that commit come');
$_->query('ROLLBACK') for grep { $_->{pid} } @many[1 .. 29];
is(poll() =~ s/\d+O ?//gr, ' | ', '… again, at most, and nothing else');
$_->kill for @many;

my ($all) = $db->query('SELECT count(*) FROM seatcast.snapshot(1, 201)');
is($db->value("SELECT count(*) FROM seatcast.changes(1, 201, $_)"), $all->[0], "a cursor of nobody's, $_: the whole block") for 'NULL', "''", "'9999999999999'", "'9999999999999:\@0/0'", "'x'", "'2026-01-01 00:00:00.000000'", "'1:,2\@0/0'", "'8:9999999999\@0/0'", "'8:\@FFFFFFFF/0'";
cmp_ok($db->value("SELECT count(*) FROM seatcast.changes(1, 201, '$_')"), '>', 1, "the cursor of an earlier version, $_") for $db->value('SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 40');
$s->done;
