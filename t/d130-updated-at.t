#!/usr/bin/env perl
# sql/changes_updated_at.sql, for a table that has updated_at and nothing more: changes arrive within a poll, a commit that is late by no more than
# the overlap too, anything else with the reconcile, which counts it.  All with standard_conforming_strings off.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 300, poll_interval => '100ms', reconcile_interval => '3s');
my $stage = $s->{stage};
my $within = 0.1 + 0.25 * ($ENV{SEATCAST_PATIENCE} // 1);
my $runs;
sub psql {	# exit status and what was said
	my ($db, $file) = @_;
	my $name = 'run' . ++$runs;
	$stage->spawn($name, [$stage->pg_bin('psql'), qw(-X -q -v ON_ERROR_STOP=1 -d), $s->pg_conninfo(dbname => $db), '-f', "$stage->{src}/sql/$file"]);
	my $status = $stage->wait_end($name, 30) // die "$name hangs\n";
	delete $stage->{proc}{$name};
	return join ' ', $status >> 8, $s->log_text($name);
}

# ---- installed on another application's table, without install.sql ----

my $admin = $s->session(dbname => 'postgres');
$admin->query("CREATE DATABASE legacy; ALTER DATABASE legacy SET standard_conforming_strings = off; ALTER DATABASE legacy SET seatcast.overlap = '1 s'; ALTER DATABASE seatcast SET standard_conforming_strings = off");
my $db = $s->session(dbname => 'legacy');
is($db->value('SHOW standard_conforming_strings'), 'off', 'backslashes are escapes');
$db->query(<<~'SQL');
	CREATE TABLE matches (id int PRIMARY KEY, name text);
	CREATE TABLE areas (id int PRIMARY KEY, name text);
	CREATE TABLE sections (id int PRIMARY KEY, area_id int, name text);
	CREATE TABLE blocks (id int PRIMARY KEY, section_id int, name text);
	CREATE TABLE seats (id int PRIMARY KEY, block_id int, row_number int, seat_number int);
	CREATE TABLE allocations (match_id int, seat_id int, status text, hold_expires_at timestamp, PRIMARY KEY (match_id, seat_id));
	INSERT INTO matches VALUES (1, 'one'), (2, 'two'); INSERT INTO areas VALUES (1, 'North'); INSERT INTO sections VALUES (1, 1, 'Lower'); INSERT INTO blocks VALUES (101, 1, '101'), (102, 1, '102');
	INSERT INTO seats SELECT i, 101 + i / 500, i / 20, i % 20 FROM generate_series(101, 899) i;
	SQL
my ($hint) = psql('legacy', 'changes_updated_at.sql') =~ /^3 .*ERROR:  seatcast: allocations has no column updated_at\n.*HINT:  (ALTER .* CURRENT_TIMESTAMP),/;
ok($hint, 'a table without updated_at: refused');
is($db->value("SELECT count(*) FROM pg_namespace WHERE nspname = 'seatcast'"), 0, '… and nothing is left behind');
$db->query($hint);
($hint) = psql('legacy', 'changes_updated_at.sql') =~ /^0 .*WARNING: .* no index on updated_at.*\n.*HINT:  (CREATE INDEX .*)/;
ok($hint, 'without an index: a warning');
$db->query($hint);
is(psql('legacy', 'changes_updated_at.sql'), '0 ', '… which its hint mends: done, silently');
my @columns = map { $_->[0] } $db->query("SELECT attname FROM pg_attribute WHERE attrelid = 'allocations'::regclass AND attnum > 0 ORDER BY attnum");
is("@columns", 'match_id seat_id status hold_expires_at updated_at', 'the table is as it was');
is($db->value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'allocations'::regclass"), 0, '… without a trigger');

# ---- what a poll reads ----

sub utc { my ($shift) = @_; return "(clock_timestamp() AT TIME ZONE 'UTC' + interval '@{[ $shift // 0 ]}')" }
sub put { my ($seat, $status, $at) = @_; return "INSERT INTO allocations (match_id, seat_id, status, updated_at) VALUES (1, $seat, '$status', @{[ $at // utc() ]})
	ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status, updated_at = EXCLUDED.updated_at" }
# The seats that a poll of block 101 reads when the last one was so long ago.
sub read_since {
	my ($shift, $session) = @_;
	my $cursor = "to_char(now() AT TIME ZONE 'UTC' + interval '$shift', 'YYYY-MM-DD HH24:MI:SS.US')";
	return join ' ', map { $_->[0] } ($session // $db)->query("SELECT seat_id FROM seatcast.changes(1, 101, $cursor) WHERE seat_id IS NOT NULL ORDER BY 1");
}
my $all = join ' ', 101 .. 499;
$db->query(put($_, 'OCCUPIED', "'2020-01-01'")) for 301 .. 310;
is(read_since('0'), '', 'nothing has changed: a poll reads nothing');
$db->query("@{[ put(311, 'HOLD', utc('-10 s')) ]}; @{[ put(312, 'HOLD', utc('-10 s')) ]}; @{[ put(511, 'HOLD', utc('-10 s')) ]}; UPDATE allocations SET match_id = 2 WHERE seat_id = 312; @{[ put(312, 'HOLD', utc('-1 h')) ]}");
is(read_since('-9.9 s'), '311', 'what is within the overlap of 1 s, in this block and match');
is(read_since('-8.9 s'), '', '… and not what is older');
my $plain = $s->session(dbname => 'legacy');
$plain->query("SET seatcast.overlap = ''");
is(read_since('-8.2 s', $plain), '311', 'an overlap of 2 s if none is set');
is(read_since('-7.5 s', $plain), '', '… and no more');
$plain->query("SET seatcast.time_zone = 'Asia/Seoul'");
$plain->query(put(313, 'HOLD', "(clock_timestamp() AT TIME ZONE 'Asia/Seoul')"));
is(read_since('0', $plain), '313', 'updated_at in the zone of seatcast.time_zone');
$db->query("DELETE FROM allocations WHERE seat_id IN (311, 312, 313, 511)");
is(join(' ', map { $_->[0] } grep { defined $_->[0] } $db->query("SELECT seat_id FROM seatcast.changes(1, 101, $_)")), $all, "a cursor of another variant, $_: the whole block")
	for "''", 'NULL', "'757'", "'2999-01-01 00:00:00.000000'", "'2026-01-01'", "'infinity'";

# ---- on a stream ----

$s->start_seatcast(database => $s->pg_conninfo(dbname => 'legacy', user => 'seatcast_writer'));
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init')->expect_seat(301 => 'OCCUPIED');
sub soon {
	my ($says, $do, %want) = @_;
	my $at = time;
	ref $do ? $do->() : $db->query($do);
	$fan->expect_seat(%want, within => 2);
	$s->in_time(time - $at, $within, sprintf '%s: after %.0f ms', $says, 1000 * (time - $at));
	return;
}
sub by_reconcile {	# it is late, is counted as such, and comes with the next reconcile
	my ($says, $do, $late, %want) = @_;
	my ($before, $at) = ($s->counter('late_seats'), time);
	ref $do ? $do->() : $db->query($do);
	$fan->expect_seat(%want, within => 5);
	$s->in_time(time - $at, 3 + $within, sprintf '%s: after %.1f s', $says, time - $at);
	$s->expect_counter(late_seats => $before + $late, within => 2);
	return;
}
soon('inserted', put(101, 'HOLD'), 101 => 'HOLD');
soon('updated', "UPDATE allocations SET status = 'OCCUPIED', updated_at = @{[ utc() ]} WHERE seat_id = 101", 101 => 'OCCUPIED');
soon('a block of others: only ours', put(501, 'OCCUPIED') . '; ' . put(102, 'OCCUPIED'), 102 => 'OCCUPIED');

# Late commits, while others commit.
my $late = $s->session(dbname => 'legacy');
my $other = 200;
sub others_commit_for {
	my ($seconds) = @_;
	for (my $end = time + $seconds; time < $end;) { my $seat = $other++; $db->query(put($seat, 'HOLD')); $fan->expect_seat($seat => 'HOLD', within => 2) }
	return;
}
$late->query('BEGIN; ' . put(103, 'OCCUPIED'));
others_commit_for(0.5);
is($fan->{seats}{103}, 'AVAILABLE', 'not shown before its commit');
soon('a commit half the overlap late', sub { $late->query('COMMIT') }, 103 => 'OCCUPIED');
$s->expect_counter(late_seats => 0);
$late->query('BEGIN; ' . put(104, 'OCCUPIED'));
others_commit_for(1.3);
by_reconcile('a commit later than the overlap', sub { $late->query('COMMIT') }, 1, 104 => 'OCCUPIED');
by_reconcile('a row deleted', 'DELETE FROM allocations WHERE seat_id = 101', 1, 101 => 'AVAILABLE');
by_reconcile('a writer that forgets updated_at', "UPDATE allocations SET status = 'HOLD' WHERE seat_id = 301", 1, 301 => 'HOLD');

# Clocks: of another zone, far ahead, behind, none.
my @ahead = map { put($_, 'OCCUPIED', (utc('1 day'), utc('1 h'), 'NULL', "'9999-01-01'", "'infinity'")[$_ % 5]) } 401 .. 440;
soon('forty rows from the future, or from no time', join('; ', @ahead), map { $_ => 'OCCUPIED' } 401 .. 440);
my $events = $fan->events;
soon('… the others arrive', put(105, 'HOLD'), 105 => 'HOLD');
soon('… when the clock is right again', put(401, 'HOLD'), 401 => 'HOLD');
is(scalar($fan->events) - $events, 2, '… nothing is sent twice');
my $cursor = $db->value("SELECT next_cursor FROM seatcast.changes(1, 101, '') WHERE seat_id IS NULL");
$s->expect('… and a poll reads these and no more', sub { read_since('0') eq join ' ', 402 .. 440 }, 5);
cmp_ok($db->value("SELECT count(*) FROM seatcast.changes(1, 101, '$cursor')"), '<', 50, '… with the cursor of the last poll too');
soon('… if one of them changes', put(402, 'HOLD', utc('1 day')), 402 => 'HOLD');
soon('a clock half the overlap behind', put(106, 'HOLD', utc('-0.5 s')), 106 => 'HOLD');
by_reconcile('a clock an hour behind', put(107, 'HOLD', utc('-1 h')), 1, 107 => 'HOLD');

# Holds end at their moment here too.
my $end = $db->value("INSERT INTO allocations (match_id, seat_id, status, hold_expires_at, updated_at) VALUES (1, 108, 'HOLD', @{[ utc('1.3 s') ]}, @{[ utc() ]}) RETURNING extract(epoch FROM hold_expires_at AT TIME ZONE 'UTC')");
$fan->expect_seat(108 => 'HOLD', within => 1)->expect_seat(108 => 'AVAILABLE', within => 3);
my ($e) = grep { $_->{json}{data}{seatId} == 108 && $_->{json}{data}{status} eq 'AVAILABLE' } $fan->events('update');
$s->in_time(abs($e->{at} - $end), 0.15 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf 'a hold ends %+.0f ms from its moment', 1000 * ($e->{at} - $end));
$s->expect_counter(late_seats => 4);
is(scalar($fan->events('init')), 1, 'one stream, one init');
my %true = map { @$_ } $db->query("SELECT s.id, CASE WHEN a.hold_expires_at <= @{[ utc() ]} THEN 'AVAILABLE' ELSE coalesce(a.status, 'AVAILABLE') END FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id AND a.match_id = 1 WHERE s.block_id = 101");
$fan->expect_same_seats(\%true);
$fan->close;
is($s->stop_seatcast, 0, 'seatcast ends as it should');

# ---- over install.sql and back again, while a viewer looks ----

$s->start_seatcast(database => $s->pg_conninfo(user => 'seatcast_writer'), reconcile_interval => '60m');
$db = $s->session;
$fan = $s->client('fan of both')->watch(1, 101)->expect_event('init');
my $seat = 101;
for my $variant ('changes_updated_at', 'changes_exact', 'changes_updated_at', 'install', 'changes_updated_at') {
	is(psql('seatcast', "$variant.sql"), '0 ', "$variant.sql: done, silently");
	like($db->value("SELECT prosrc FROM pg_proc WHERE proname = 'changes'"), $variant =~ /updated/ ? qr/updated_at >/ : qr/changed_xid >=/, '… it counts now');
	is($db->value("SELECT count(seat_id) FROM seatcast.changes(1, 101, '@{[ $variant =~ /updated/ ? 757 : '2026-01-01 00:00:00.000000' ]}')"), 300, '… the cursor of the other is answered with the whole block');
	for my $held ($seat++) { soon('… a change', "SELECT seatcast.hold(1, $held, 7, '5 min')", $held => 'HOLD') }
	$cursor = $db->value("SELECT next_cursor FROM seatcast.changes(1, 101, '') WHERE seat_id IS NULL");
	cmp_ok($db->value("SELECT count(seat_id) FROM seatcast.changes(1, 101, '$cursor')"), '<=', $seat - 101, '… its own with what is new');
}
is(join(' ', map { $_->{type} } grep { $_->{type} !~ /update|beat/ } $fan->events), 'init', 'the viewer noticed nothing else');
$s->expect_counter(late_seats => 0)->expect_counter(reconciles => 1);
is(join("\n", grep { /WARNING:/ && !/no index on updated_at/ } split /\n/, $s->log_text('postgresql')), '', "no warning in PostgreSQL's log, about backslashes or otherwise");
$s->done;
