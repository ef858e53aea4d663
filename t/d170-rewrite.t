#!/usr/bin/env perl
# A table is rewritten while polls wait for it: ALTER TABLE with a new type or a volatile default, TRUNCATE and filled again, VACUUM FULL, a table renamed into its
# place.  To snapshots from before, the new file is empty (manual, MVCC, "Caveats").  No sold seat is shown free for a moment, no change is lost, no block is not there.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 60, lighttpd => 0, poll_interval => '100ms', reconcile_interval => '300ms');
my $db = $s->session;
$db->query("INSERT INTO allocations (match_id, seat_id, user_id, status) SELECT 1, id, 9, 'OCCUPIED' FROM seats WHERE block_id = 101");
my @fans = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 2;
my $copy = sub { my ($t) = @_; return "CREATE TEMP TABLE copy AS SELECT * FROM $t; TRUNCATE $t CASCADE; INSERT INTO $t SELECT * FROM copy; DROP TABLE copy" };
my $waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast' AND wait_event_type = 'Lock'";
my $n = 0;
sub rewritten {
	my ($says, $sql) = @_;
	my $seat = 101 + $n++ % 60;
	my @seen = map { scalar $_->events } @fans;
	my $t = $s->session;
	# The change before it that the waiting poll has not seen, and the migration, which both commit while it waits.
	$t->query("BEGIN; $sql");
	$s->expect("$says: polls wait", sub { $db->value($waits) > 0 }, 10);
	$t->query("UPDATE allocations SET user_id = 10 WHERE seat_id = $seat; COMMIT");
	$db->query("UPDATE allocations SET status = 'HOLD' WHERE seat_id = $seat");
	$_->expect_seat($seat => 'HOLD', within => 3) for @fans;
	$db->query("UPDATE allocations SET status = 'OCCUPIED' WHERE seat_id = $seat");
	$_->expect_seat($seat => 'OCCUPIED', within => 3) for @fans;
	my @new = map { my $f = $fans[$_]; grep { $_->{type} eq 'update' } ($f->events)[$seen[$_] .. $f->events - 1] } 0 .. $#fans;
	is(join(' ', map { "$_->{json}{data}{seatId}=$_->{json}{data}{status}" } grep { $_->{json}{data}{status} eq 'AVAILABLE' || $_->{json}{data}{seatId} != $seat } @new), '', '… viewers see the two changes and nothing else');
	$t->kill;
	return;
}
for my $round (1 .. 2) {
	my $type = $round % 2 ? 'numeric' : 'bigint';
	rewritten('allocations, a column with a volatile default', "ALTER TABLE allocations ADD COLUMN r$round uuid DEFAULT gen_random_uuid()");
	rewritten('allocations, a new type', "ALTER TABLE allocations ALTER user_id TYPE $type");
	rewritten('allocations, TRUNCATE', $copy->('allocations'));
	rewritten('seats, a new type', "ALTER TABLE seats ALTER seat_number TYPE $type");
	rewritten('seats, TRUNCATE', $copy->('seats'));
	rewritten('both', "ALTER TABLE seats ALTER row_number TYPE $type; ALTER TABLE allocations ALTER user_id TYPE $type; ALTER TABLE allocations ALTER user_id TYPE bigint");
}
# What is asked for once: existence and lists, as who waits sees them.
for my $ask (['matches', 'block_exists(1, 101)'], ['blocks', "blocks_exist(1, '{101,102}')"], ['areas', 'areas()'], ['sections', 'stadium()'], ['blocks', 'blocks(1)'], ['seats', 'block_seats(101)'], ['seats', 'match_snapshot(1)'], ['allocations', q{match_changes(1, '1:@0/0')}]) {
	my ($table, $call) = @$ask;
	my ($t, $reader) = ($s->session, $s->session(user => 'seatcast_reader'));
	my $before = $reader->value("SELECT count(*) || ' ' || min(x::text) FROM seatcast.$call x");
	$t->query("BEGIN; ALTER TABLE $table ADD COLUMN a@{[ $n++ ]} uuid DEFAULT gen_random_uuid()");
	$reader->send("SELECT * FROM seatcast.$call");
	$s->expect("$call waits for $table", sub { $db->value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'seatcast_reader' AND wait_event_type = 'Lock' AND application_name <> 'seatcast'") > 0 }, 10);
	$t->query('COMMIT');
	my $said = eval { $reader->result; '' } // $@;
	like($said, qr/was rewritten while this statement waited/, '… and is told to ask again');
	is($reader->value("SELECT count(*) || ' ' || min(x::text) FROM seatcast.$call x") =~ s/ .*//r, $before =~ s/ .*//r, '… which is right again');
}
is($s->http(GET => $s->snapshot_path(1, 101))->{status}, 200, 'the block is still there');
my ($state) = $s->sql("SELECT count(*) FROM seatcast.match_snapshot(1) WHERE status = 'OCCUPIED'");
is($state->[0], 60, 'all is as it was');
$s->expect_counter(late_seats => 0);
$s->done(allow => qr/was rewritten while|SQLSTATE 40001|poll: good again|stale/);
