#!/usr/bin/env perl
# Against a hot standby, a real one: streams, a commit that is late, what was rolled back, a HOLD that expires; allocation is 503.
# Replication that stops is seen as no news; what was missed comes with it.  The primary dies and the standby is promoted: the
# streams stay, and allocation works.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 40);
my $stage = $s->{stage};
my $slack = 0.5 * ($ENV{SEATCAST_PATIENCE} // 1);	# replication takes its time too
my $database = start_standby($stage);
my $standby = $s->session(host => $s->dir . '/pg2');
is($standby->value('SELECT pg_is_in_recovery()'), 't', 'a standby in recovery');
my $check = qx{'@{[ binary($stage) ]}' --check --database '$database' 2>&1};
is($?, 0, '--check: good enough') or diag($check);
like($check, qr/standby/, '… and says what a standby means');

$s->start_seatcast(database => $database, reconcile_interval => '60m', hold_duration => '5m');
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
sub soon { my ($says, $seat, $status, $do) = @_; my $t = time; $do->(); $fan->expect_seat($seat => $status, within => 5); my $d = time - $t; $s->in_time($d, 0.2 + $slack, sprintf '%s: after %.0f ms', $says, 1000 * $d); return }

soon('a change on the primary', 101, 'HOLD', sub { $s->sql("SELECT seatcast.hold(1, 101, 7, '5m')") });
# Late commits, as in d010.  On a standby the snapshot's xmin comes from the WAL.
my $put = "INSERT INTO allocations (match_id, seat_id, user_id, status) VALUES (1, %d, 7, 'OCCUPIED') ON CONFLICT (match_id, seat_id) DO UPDATE SET status = 'OCCUPIED'";
my $seat = 110;
my %late = ('a plain one' => '%s', 'in a savepoint' => 'SAVEPOINT a; SAVEPOINT b; %s; RELEASE b', 'rolled back to a savepoint, and written again' => 'SAVEPOINT a; %1$s; ROLLBACK TO a; %1$s');
for my $name (sort keys %late) {
	my ($mine, @other) = ($seat, $seat + 1, $seat + 2);
	$seat += 3;
	my $t = $s->session;
	$t->query('BEGIN; ' . sprintf $late{$name}, sprintf $put, $mine);
	for my $o (@other) { $s->sql(sprintf $put, $o); $fan->expect_seat($o => 'OCCUPIED') }
	is($fan->{seats}{$mine}, 'AVAILABLE', "late, $name: not shown before its commit");
	soon("late, $name", $mine, 'OCCUPIED', sub { $t->query('COMMIT') });
	$t->kill;
}
my $t = $s->session;
$t->query("BEGIN; @{[ sprintf $put, 130 ]}; PREPARE TRANSACTION 'late'");
$s->sql(sprintf $put, 131);
$fan->expect_seat(131 => 'OCCUPIED');
is($fan->{seats}{130}, 'AVAILABLE', 'prepared: not shown');
soon('prepared, then committed', 130, 'OCCUPIED', sub { $t->query("COMMIT PREPARED 'late'") });
$t->query('BEGIN; ' . (sprintf $put, 132) . '; ROLLBACK');
$s->sql("SELECT seatcast.hold(1, 133, 7, '1s')");
$fan->expect_seat(133 => 'HOLD')->expect_seat(133 => 'AVAILABLE', within => 3);
is(scalar(grep { $_->{json}{data}{seatId} == 132 } $fan->events('update')), 0, 'what was rolled back is never shown');

# A long transaction on the primary that has written elsewhere holds xmin back: correct all the same
$t->query("BEGIN; INSERT INTO matches (id, name) VALUES (77, 'x')");
soon('while an old transaction is open', 134, 'OCCUPIED', sub { $s->sql(sprintf $put, 134) });
$t->query('ROLLBACK');
$s->expect_counter(late_seats => 0)->expect_counter(reconciles => 1);

# Allocation
my $hold = sub { my ($n) = @_; return $s->http(POST => "/api/matches/1/allocation/seats/$n/hold", {}, { userId => 7 }) };
my $r = $hold->(120);
is($r->{status}, 503, 'hold: 503');
is($r->{json}{status}, 503, '… in the envelope');
ok(defined $r->{headers}{'retry-after'}, '… with Retry-After');
is($s->http(POST => '/api/matches/1/allocation/seats/101/release', {}, { userId => 7 })->{status}, 503, 'release: 503');
is($s->http(POST => '/api/matches/1/allocation/seats/confirm', {}, { userId => 7, seatIds => [101] })->{status}, 503, 'confirm: 503');
is($s->http(GET => '/readyz')->{status}, 200, 'ready all the same');

# Replication pauses: nothing is shown twice or too early, and all comes with it
$standby->query('SELECT pg_wal_replay_pause()');
$s->wait_for(sub { $standby->value('SELECT pg_get_wal_replay_pause_state()') eq 'paused' }, 5);
$s->sql(sprintf $put, 135);
$s->sql("SELECT seatcast.hold(1, 136, 7, '5m')");
$s->pass_time(1);
is($fan->{seats}{135}, 'AVAILABLE', 'replay paused: no news');
is(scalar($fan->events('stale')), 0, '… the database answers, so not stale');
$standby->query('SELECT pg_wal_replay_resume()');
$fan->expect_seat(135 => 'OCCUPIED', 136 => 'HOLD', within => 5);

# A lock that is replayed keeps polls waiting, and ends them: nothing is shown before its commit, and nothing is missed.
$standby->query('ALTER SYSTEM SET max_standby_streaming_delay = 0');
$standby->query('SELECT pg_reload_conf()');
$s->expect('replay waits for nobody', sub { $standby->value('SHOW max_standby_streaming_delay') eq '0' }, 5);
$t->query('BEGIN; LOCK TABLE allocations IN ACCESS EXCLUSIVE MODE; ' . sprintf $put, 121);
$s->sql('SELECT pg_switch_wal()');	# a lock is sent with the next flush
my $other = $s->client('other')->watch(1, 102);
$s->expect('a poll waits', sub { $standby->value("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'allocations'::regclass") > 0 }, 10);
is($fan->{seats}{121}, 'AVAILABLE', 'nothing is shown before its commit');
$t->query((sprintf $put, 122) . '; COMMIT');
$fan->expect_seat(121 => 'OCCUPIED', 122 => 'OCCUPIED', within => 10);
$s->client('one more')->watch(1, 102)->expect_event('init', within => 10)->close;
$other->close;
# Replay that conflicts with polls cancels them: rows that are vacuumed away under them.
for my $n (1 .. 20) {
	$s->sql(sprintf $put, 123) for 1 .. 5;
	$s->sql('VACUUM allocations');
	$s->sql("SELECT seatcast.hold(1, 124, $n, '1 ms')");
}
$s->sql(sprintf $put, 124);
$fan->expect_seat(123 => 'OCCUPIED', 124 => 'OCCUPIED', within => 5);
is(scalar($fan->events('init')), 1, '… on the same stream');
$s->expect_counter(late_seats => 0);

# Failover: the primary dies at once with a transaction open, the standby becomes the primary
$t->query('BEGIN; ' . sprintf $put, 137);
# (all but what the WAL writer puts in by itself)
$s->expect('all has been replayed', sub { my ($lsn) = $s->sql('SELECT pg_current_wal_insert_lsn()'); $standby->value("SELECT pg_last_wal_replay_lsn() >= '$lsn->[0]'::pg_lsn - 400") eq 't' }, 10);
$s->pg_kill;
my $new = $s->session(host => $s->dir . '/pg2');
my $promoted = time;
is($new->value('SELECT pg_promote(true, 30)'), 't', 'promoted');
is($hold->(120)->{status}, 200, 'allocation works, on the same connections');
$fan->expect_seat(120 => 'HOLD');
note(sprintf '%.1f s after the promotion began', time - $promoted);
soon2('a change on the new primary', 138, sub { $new->query(sprintf $put, 138) });
sub soon2 { my ($says, $n, $do) = @_; my $at = time; $do->(); $fan->expect_seat($n => 'OCCUPIED', within => 5); $s->in_time(time - $at, 0.2 + $slack, sprintf '%s: after %.0f ms', $says, 1000 * (time - $at)); return }
my $late = $s->session(host => $s->dir . '/pg2');
$late->query('BEGIN; ' . sprintf $put, 139);
$new->query(sprintf $put, 140);
$fan->expect_seat(140 => 'OCCUPIED');
soon('late, on the new primary', 139, 'OCCUPIED', sub { $late->query('COMMIT') });
is($fan->{seats}{137}, 'AVAILABLE', 'what died with the old one is not shown');
is(scalar($fan->events('init')), 1, 'the stream has lived through all of it');
my %db = map { @$_ } $new->query("SELECT s.id, CASE WHEN a.status = 'HOLD' AND a.hold_expires_at <= now() AT TIME ZONE 'UTC' THEN 'AVAILABLE' ELSE coalesce(a.status, 'AVAILABLE') END FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = 101");
$fan->expect_same_seats(\%db);
$s->expect_counter(late_seats => 0);
$fan->close;
is($s->stop_seatcast, 0, 'seatcast ends as it should');
$_->kill for $standby, $new, $late, $t;
$stage->stop('standby', 'INT', 60);
$s->done;
