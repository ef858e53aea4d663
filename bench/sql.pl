#!/usr/bin/env perl
# What the port's functions cost the database, and by which plans, in the situations that make a plan or a table bad.
#
#	perl bench/sql.pl			all: some five minutes
#	perl bench/sql.pl --port updated-at	exact (the default), updated-at, shop (doc/other-schema.sql)
#	perl bench/sql.pl --changes 36000	fewer changes beside the open transaction, and fewer dead versions
#
# A match of 100 blocks with 400 seats and one with 20,000, each allocated. Situations, one after the other:
#	loaded		all rows written in one go, and no statistics ever
#	analyzed	VACUUM ANALYZE
#	bulk		all rows written again in one transaction, no VACUUM
#	dead		a million versions of the 400-seat blocks, autovacuum off
#	open		a transaction that has written stays open; one block changes 100 times a second for an hour
# For each call: rows, buffers touched (no machine's load changes these), microseconds of the backend's processor, median
# of three tens; and which scans of the seats' and allocations' tables were in its plans.
# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Getopt::Long;
use Time::HiRes qw(time);
use Deploy;
use Stage;

my ($port, $changes) = ('exact', 360_000);
GetOptions('port=s' => \$port, 'changes=i' => \$changes) && $port =~ /^(?:exact|updated-at|shop)$/ or die "see the first lines of $0\n";
$| = 1;

my $stage = Stage->new(pg => { autovacuum => 'off', shared_buffers => '512MB', max_wal_size => '4GB', session_preload_libraries => 'auto_explain',
	'auto_explain.log_nested_statements' => 'on', log_statement => 'none' });
$stage->pg_start;
$stage->session(dbname => 'postgres')->query('CREATE DATABASE seatcast');
my ($SMALL, $BIG) = (101, 900);		# blocks: 101 to 200 with 400 seats, 900 with 20,000
our ($db, $backend, $log) = ($stage->session, undef, 'postgresql');
my $write;			# the statement that changes seats from .. to
if ($port eq 'shop') {
	$stage->spawn('psql', [$stage->pg_bin('psql'), qw(-X -q -1 -v ON_ERROR_STOP=1 -v sample=1 -d), $stage->pg_conninfo,
		map { ('-f', "$stage->{src}/$_") } qw(doc/other-schema.sql sql/allocation.sql sql/roles.sql)]);
	die $stage->log_text('psql') if ($stage->wait_end('psql', 60) // 1) != 0;
	$db->query(<<~"SQL", 300);
		INSERT INTO shop.game VALUES (1, 'x');
		INSERT INTO shop.stand SELECT i, 11, i FROM generate_series(1000, 1100) i;
		INSERT INTO shop.chair SELECT 1000000 + i, 1000 + i / 400, 'A', 1 FROM generate_series(0, 39999) i;
		INSERT INTO shop.chair SELECT 2000000 + i, 1100, 'A', 1 FROM generate_series(0, 19999) i;
		INSERT INTO shop.ticket (game_no, chair_no, state) SELECT 1, chair_no, 'PAID' FROM shop.chair WHERE chair_no >= 1000000;
		SQL
	($SMALL, $BIG) = (1000, 1100);
	$write = sub { "UPDATE shop.ticket SET state = CASE state WHEN 'PAID' THEN 'BLOCKED' ELSE 'PAID' END WHERE game_no = 1 AND chair_no BETWEEN " . join ' AND ', map { $_ + 1000000 } @_ };
} else {
	$stage->sql_file('install.sql');
	$stage->sql_file('changes_updated_at.sql') if $port eq 'updated-at';
	$db->query(<<~"SQL", 300);
		INSERT INTO matches VALUES (1, 'x');
		INSERT INTO areas VALUES (1, 'x');
		INSERT INTO sections VALUES (1, 1, 'x');
		INSERT INTO blocks SELECT i, 1, i FROM generate_series(101, 200) i UNION ALL SELECT 900, 1, '900';
		INSERT INTO seats SELECT 1000000 + i, 101 + i / 400, 1, 1 FROM generate_series(0, 39999) i UNION ALL SELECT 2000000 + i, 900, 1, 1 FROM generate_series(0, 19999) i;
		INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'OCCUPIED' FROM seats;
		SQL
	$write = sub { "UPDATE allocations SET status = CASE status WHEN 'OCCUPIED' THEN 'AVAILABLE' ELSE 'OCCUPIED' END WHERE match_id = 1 AND seat_id BETWEEN " . join ' AND ', map { $_ + 1000000 } @_ };
}
$db->query("SET seatcast.overlap = '0 s'");
my $FIRST = 1_000_000;		# the first seat
$backend = $db->value('SELECT pg_backend_pid()');
sub cpu { return (split ' ', Stage::slurp("/proc/$backend/schedstat"))[0] / 1000 }

sub cursor_of { return $db->value("SELECT next_cursor FROM seatcast.changes(1, $_[0], " . (defined $_[1] ? "'$_[1]'" : 'NULL') . ') WHERE seat_id IS NULL', 120) }
sub another { return $stage->sql('SELECT pg_current_xact_id()') }

# One row of the table.
sub line {
	my ($situation, $says, $call, $times) = @_;
	my $t0 = time;
	my ($rows) = $db->value("SELECT count(*) FROM $call", 300);
	$times //= time - $t0 > 0.1 ? 1 : 10;
	my ($buffers) = map { $_->[0] =~ /shared hit=(\d+)(?: read=(\d+))?/ ? $1 + ($2 // 0) : () } $db->query("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) SELECT * FROM $call", 300);
	my @us;
	for (1 .. 3) {
		my $before = cpu();
		$db->query("SELECT count(*) FROM $call;\n" x $times, 300);
		push @us, (cpu() - $before) / $times;
	}
	my $length = length $stage->log_text($log);
	$db->query("SET auto_explain.log_min_duration = 0; SELECT count(*) FROM $call; SET auto_explain.log_min_duration = -1", 300);
	my ($plans, %scan) = substr $stage->log_text($log), $length;
	$scan{"$1 $2"}++ while $plans =~ /(Seq Scan on|Index(?: Only)? Scan(?: Backward)? using|Bitmap Index Scan on) (\S*(?:allocations|seats|ticket|touched|chair)\S*)/g;
	printf "| %s | %s | %d | %s | %.0f | %s |\n", $situation, $says, $rows, $buffers // '-', (sort { $a <=> $b } @us)[1],
	    join ', ', sort map { s/Index(?: Only)? Scan(?: Backward)? using //r } keys %scan;
	return;
}

sub all {
	my ($situation) = @_;
	for my $b ([$SMALL, '400'], [$BIG, '20,000']) {
		my $cursor = cursor_of($b->[0]);
		another();
		line($situation, "changes, $b->[1] seats, no news", "seatcast.changes(1, $b->[0], '$cursor')");
	}
	my $cursor = cursor_of($SMALL);
	$stage->sql($write->(0, 2));
	line($situation, 'changes, 400 seats, 3 news', "seatcast.changes(1, $SMALL, '$cursor')");
	line($situation, 'match_changes, 3 news', "seatcast.match_changes(1, '$cursor')");
	line($situation, 'snapshot, 400 seats', "seatcast.snapshot(1, $SMALL)");
	line($situation, 'snapshot, 20,000 seats', "seatcast.snapshot(1, $BIG)");
	line($situation, 'match_snapshot', 'seatcast.match_snapshot(1)');
	line($situation, 'blocks_exist', "seatcast.blocks_exist(1, '{$SMALL,$BIG}')");
	$db->query('BEGIN');
	line($situation, 'hold_seats, 4 seats', "seatcast.hold_seats(1, 7, '{$FIRST," . join(',', map { $FIRST + $_ } 1 .. 3) . "}', '5 min', 0, '0 s')");
	$db->query('ROLLBACK');
	return;
}

# Changes 100 at a time, each hundred a transaction.
sub changes { my ($n, $of) = @_; my $t = time; $stage->sql(sprintf('DO $$ BEGIN FOR i IN 0..%d LOOP %s; COMMIT; END LOOP; END $$', $n / 100 - 1, $of), 3600); return time - $t }
sub hundred { return $write->(0, 0) =~ s/BETWEEN .*/"BETWEEN $FIRST + i % 4 * 100 AND $FIRST + i % 4 * 100 + 99"/er }

print "| situation | call | rows | buffers | us | scans |\n|---|---|---|---|---|---|\n";
all('loaded');
$db->query('VACUUM ANALYZE', 300);
all('analyzed');
$stage->sql($write->(0, 1999999), 300);
all('bulk');
$stage->sql($write->(0, 39999), 300) for 1 .. $changes * 25 / 360_000;
all('dead');
$db->query('VACUUM ANALYZE', 300);
my $standby = start_standby($stage);		# where nobody tells which transactions are running
my $there = Session->new($stage->pg_bin('psql'), $standby =~ s/user=\w+/user=postgres/r, sub { $stage->wait_until(@_) });
my $open = $stage->session;
$open->query($port eq 'shop' ? "BEGIN; INSERT INTO shop.game VALUES (99, 'x')" : "BEGIN; INSERT INTO matches VALUES (99, 'x')");
my ($cursor, $first) = (cursor_of($SMALL)) x 2;
for my $part (1 .. 4) {
	my $took = changes($changes / 4, hundred());
	my $says = sprintf 'open, %d changes', $part * $changes / 4;
	printf STDERR "%s: %.0f us a change\n", $says, 1e6 * $took / $changes * 4;
	line($says, 'changes: all of them, in one poll', "seatcast.changes(1, $SMALL, '$first')") if $part == 4;
	$cursor = cursor_of($SMALL, $cursor);
	another();
	line($says, 'changes, no news', "seatcast.changes(1, $SMALL, '$cursor')");
	line($says, 'match_changes, no news', "seatcast.match_changes(1, '$cursor')");
	$stage->sql($write->(0, 2));
	line($says, 'changes, 3 news', "seatcast.changes(1, $SMALL, '$cursor')");
	{
		my $lsn = $stage->sql('SELECT pg_current_wal_lsn()') && $db->value('SELECT pg_current_wal_insert_lsn()');
		$stage->wait_until(sub { $there->value("SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' }, 120);
		local ($db, $log) = ($there, 'standby');
		local $backend = $db->value('SELECT pg_backend_pid()');
		line($says, 'changes, no news, on a standby', "seatcast.changes(1, $SMALL, '" . cursor_of($SMALL, cursor_of($SMALL)) . "')");
	}
	line($says, 'snapshot, that block', "seatcast.snapshot(1, $SMALL)");
	line($says, 'snapshot, another block', "seatcast.snapshot(1, @{[$SMALL + 1]})");
	line($says, 'match_snapshot', 'seatcast.match_snapshot(1)');
	$db->query('BEGIN');
	line($says, 'hold_seats, 4 seats', "seatcast.hold_seats(1, 7, '{$FIRST," . join(',', map { $FIRST + $_ } 1 .. 3) . "}', '5 min', 0, '0 s')");
	$db->query('ROLLBACK');
}
$open->query('ROLLBACK');
$db->query("SELECT count(*) FROM seatcast.snapshot(1, $SMALL)", 300);
line('it has ended, no vacuum', 'snapshot, that block', "seatcast.snapshot(1, $SMALL)");
$stage->strike;
