#!/usr/bin/env perl
# What polls, reconciles and holds read: never a whole table, by whichever port; in a stadium of 40,000 seats and a block of 20,000,
# without statistics, with them, after all rows were written again, and beside a transaction that stays open while a block changes and changes.
# Counted in pages and by the plans that ran, which no machine's load changes.  bench/sql.pl prints the same as a table.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 1, pg => { autovacuum => 'off', log_statement => 'none', shared_buffers => '256MB', max_wal_size => '1GB' });
my $db = $s->session;
plan skip_all => 'PostgreSQL has no auto_explain here' if $db->error('LOAD $$auto_explain$$' =~ s/\$\$/'/gr);
my ($SMALL, $BIG, $OTHER, $SEAT) = (1000, 1100, 1001, 3_000_000);	# blocks with 400, 20,000 and 400 seats; the first seat of the first
my @OVERLAP = ("SET seatcast.overlap = '0 s'", 'SET auto_explain.log_nested_statements = on');

# How each port is set up, and the statement that changes seats.
my %port = (
	exact => [sub { seats() }, "UPDATE allocations SET status = CASE status WHEN 'OCCUPIED' THEN 'AVAILABLE' ELSE 'OCCUPIED' END WHERE match_id = 1 AND seat_id BETWEEN %d AND %d"],
	'updated-at' => [sub { $s->sql_file('changes_updated_at.sql') }, "UPDATE allocations SET status = CASE status WHEN 'OCCUPIED' THEN 'AVAILABLE' ELSE 'OCCUPIED' END WHERE match_id = 1 AND seat_id BETWEEN %d AND %d"],
	shop => [sub { shop() }, "UPDATE shop.ticket SET state = CASE state WHEN 'PAID' THEN 'BLOCKED' ELSE 'PAID' END WHERE game_no = 1 AND chair_no BETWEEN %d AND %d"],
);

sub seats {
	$db->query(<<~SQL, 120);
		INSERT INTO blocks SELECT i, 1, i FROM generate_series($SMALL, $BIG) i;
		INSERT INTO seats SELECT $SEAT + i, $SMALL + i / 400, 1, 1 FROM generate_series(0, 39999) i UNION ALL SELECT 2 * $SEAT + i, $BIG, 1, 1 FROM generate_series(0, 19999) i;
		INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'OCCUPIED' FROM seats WHERE id >= $SEAT
		SQL
	return;
}
sub shop {
	my $stage = $s->{stage};
	$stage->spawn('psql', [$stage->pg_bin('psql'), qw(-X -q -1 -v ON_ERROR_STOP=1 -v sample=1 -d), $stage->pg_conninfo, map { ('-f', "$stage->{src}/$_") } qw(doc/other-schema.sql sql/allocation.sql sql/roles.sql)]);
	($stage->wait_end('psql', 60) // 1) == 0 or die $stage->log_text('psql');
	$db->query(<<~SQL, 120);
		INSERT INTO shop.game VALUES (1, 'x');
		INSERT INTO shop.stand SELECT i, 11, i FROM generate_series($SMALL, $BIG) i;
		INSERT INTO shop.chair SELECT $SEAT + i, $SMALL + i / 400, 'A', 1 FROM generate_series(0, 39999) i UNION ALL SELECT 2 * $SEAT + i, $BIG, 'A', 1 FROM generate_series(0, 19999) i;
		INSERT INTO shop.ticket (game_no, chair_no, state) SELECT 1, chair_no, 'PAID' FROM shop.chair WHERE chair_no >= $SEAT
		SQL
	return;
}

# Rows and pages of a call, and which tables it read from end to end.
sub cost {
	my ($call) = @_;
	my $rows = grep { defined $_->[0] } $db->query("SELECT seat_id FROM $call", 60);
	my ($pages) = map { $_->[0] =~ /shared hit=(\d+)(?: read=(\d+))?/ ? $1 + ($2 // 0) : () } $db->query("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) SELECT * FROM $call", 60);
	my $old = length $s->log_text('postgresql');
	$db->query("SET auto_explain.log_min_duration = 0; SELECT count(*) FROM $call; SET auto_explain.log_min_duration = -1", 60);
	my $plans = substr $s->log_text('postgresql'), $old;
	my %whole = map { $_ => 1 } $plans =~ /Seq Scan on (?:\w+\.)?(\w+)/g;
	delete @whole{grep { /^pg_/ } keys %whole};		# small ones of PostgreSQL itself
	die "no plan was logged\n" if $plans !~ /Function Scan on/;
	return ($rows, $pages // 0, join ' ', sort keys %whole);
}
sub reads {	# at most so many pages, exactly so many rows, no table from end to end
	my ($says, $call, $rows, $pages, @whole) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @is = cost($call);
	ok($is[0] == $rows && $is[1] <= $pages && $is[2] eq "@whole", sprintf '%s: %d rows, %d pages', $says, @is[0, 1]) or diag("wanted: $rows rows, at most $pages pages, whole tables: '@whole'; got '$is[2]'");
	return;
}
sub cursor { my ($old) = @_; return $db->value("SELECT next_cursor FROM seatcast.changes(1, $SMALL, " . (defined $old ? "'$old'" : 'NULL') . ') WHERE seat_id IS NULL', 60) }
# Somebody else commits, so that the next poll has to look.
sub another { $s->sql('SELECT pg_current_xact_id()'); $s->pass_time(0.01); return }

sub situation {
	my ($says, $write, $versions) = @_;
	my $cursor = cursor();
	another();
	reads("$says: a poll without news", "seatcast.changes(1, $SMALL, '$cursor')", 0, 60);
	reads("$says: … of 20,000 seats", "seatcast.changes(1, $BIG, '$cursor')", 0, 60);
	reads("$says: … of the match", "seatcast.match_changes(1, '$cursor')", 0, 60);
	$s->sql(sprintf $write, $SEAT, $SEAT + 2);
	reads("$says: three seats", "seatcast.changes(1, $SMALL, '$cursor')", 3, 80);
	reads("$says: … of the match", "seatcast.match_changes(1, '$cursor')", 3, 80);
	reads("$says: a reconcile, 400 seats", "seatcast.snapshot(1, $SMALL)", 400, 400 * 12 + $versions);
	reads("$says: … of a block that nobody wrote to", "seatcast.snapshot(1, $OTHER)", 400, 400 * 12);
	$db->query('BEGIN');
	reads("$says: a hold of four seats", "seatcast.hold_seats(1, 7, '{$SEAT," . join(',', map { $SEAT + $_ } 1 .. 3) . "}', '5 min', 0, '0 s')", 4, 400 + 4 * $versions / 400);
	$db->query('ROLLBACK');
	return;
}

my $ROUNDS = 40;
for my $name (qw(exact updated-at shop)) {
	my ($install, $write) = @{$port{$name}};
	$install->();
	$db = $s->session;		# plans of its own
	$db->query($_) for "LOAD 'auto_explain'", @OVERLAP;
	situation("$name, no statistics", $write, 800);
	$db->query('VACUUM ANALYZE', 60);
	situation("$name, analyzed", $write, 800);
	$s->sql(sprintf($write, $SEAT, 2 * $SEAT + 19999), 120);
	situation("$name, all written again", $write, 1600);
	$db->query('VACUUM ANALYZE', 60);

	# An hour, in short: $ROUNDS times 400 changes, each round a transaction, while one that has written stays open.
	my $open = $s->session;
	$open->query('BEGIN; SELECT pg_current_xact_id()');
	$open->query('CREATE TEMP TABLE x (i int)');
	my $cursor = cursor();
	$s->sql(sprintf("DO \$\$ BEGIN FOR i IN 1..$ROUNDS LOOP $write; COMMIT; END LOOP; END \$\$", $SEAT, $SEAT + 399), 120);
	$cursor = cursor($cursor);
	another();
	situation("$name, beside an open transaction, after $ROUNDS x 400 changes", $write, 3 * 400 * $ROUNDS);
	$open->kill;
	$s->sql('VACUUM', 60);
}
$s->done;
