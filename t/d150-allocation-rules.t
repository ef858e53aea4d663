#!/usr/bin/env perl
# Who may hold, release and confirm what, as a table: each status, user and end, NULL among them, against each operation.  Several seats: all or nothing.
# Limits, also against requests at the same moment; a locked row is refused at once; refusals and renewals burn no ids.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 40);
my $db = $s->session;
my $SELLER = $s->session(user => 'seatcast_writer');
sub of { my ($function, $seats, $user, @more) = @_; return join ' ', map { "$_->[0]:$_->[1]" } $SELLER->query(sprintf "SELECT seat_id, outcome FROM seatcast.%s(1, %s, '{%s}'%s)", $function, $user // 'NULL', $seats, join '', map { ", $_" } @more) }
sub hold { my ($seats, $user, %o) = @_; return of('hold_seats', $seats, $user, map { defined ? "'$_'" : 'NULL' } $o{for} // '5 min', $o{most}, $o{life}) }
sub row { my ($seat) = @_; return join ' ', map { $_ // '-' } map { @$_ } $db->query("SELECT status, user_id, hold_expires_at IS NULL FROM allocations WHERE seat_id = $seat") }
sub put { my ($seat, $status, $user, $end) = @_; $db->query("DELETE FROM allocations WHERE seat_id = $seat; INSERT INTO allocations (match_id, seat_id, status, user_id, hold_expires_at) VALUES (1, $seat, "
	. join(', ', (defined $status ? "'$status'" : 'NULL'), $user // 'NULL', $end // 'NULL') . ')'); return }

# ---- the table ----

$db->query('ALTER TABLE allocations ALTER status DROP NOT NULL, DROP CONSTRAINT allocations_status_check');
my %END = (none => undef, past => "now() AT TIME ZONE 'UTC' - interval '1 s'", future => "now() AT TIME ZONE 'UTC' + interval '1 h'", infinity => "'infinity'", '-infinity' => "'-infinity'");
my @bad;
my $cases = 0;
for my $status (undef, qw(AVAILABLE HOLD OCCUPIED BLOCKED)) {
	for my $user (undef, 7, 8) {
		for my $end (sort keys %END) {
			my $live = ($status // '') eq 'HOLD' && $end !~ /past|^-/;
			my $mine = defined $user && $user == 7;
			my %want = (
				hold_seats => !defined $status || $status eq 'AVAILABLE' || ($status eq 'HOLD' && (!$live || $mine)) ? 'ok' : $status eq 'HOLD' ? 'held' : 'sold',
				release_seats => $live && $mine ? 'ok' : 'not-yours',
				confirm_seats => $mine && ($live || ($status // '') eq 'OCCUPIED') ? 'ok' : ($status // '') eq 'OCCUPIED' ? 'sold' : 'not-yours',
			);
			for my $function (sort keys %want) {
				put(101, $status, $user, $END{$end});
				my $before = row(101);
				my $got = of($function, 101, 7, $function =~ /hold/ ? ("'5 min'", 0, 'NULL') : ());
				my $after = row(101);
				my $becomes = { hold_seats => 'HOLD 7 f', release_seats => 'AVAILABLE - t', confirm_seats => 'OCCUPIED 7 t' }->{$function};
				$becomes = $before if $want{$function} ne 'ok' || (($status // '') eq 'OCCUPIED');
				my $case = join ' ', $function, map { $_ // 'NULL' } $status, $user, $end;
				push @bad, "$case: $got, row $after, wanted $want{$function}, row $becomes" if $got ne "101:$want{$function}" || $after ne $becomes;
				$cases++;
			}
		}
	}
}
is(join("\n", @bad), '', "$cases cases of status, user, end and operation");
# One seat of one's own does not carry another along, whatever is NULL there.
for my $other (['HOLD', undef, undef], ['HOLD', undef, $END{future}], [undef, undef, undef], ['OCCUPIED', undef, undef]) {
	put(101, 'HOLD', 7, $END{future});
	put(102, @$other);
	for (qw(confirm release)) {
		my $why = $_ eq 'confirm' && ($other->[0] // '') eq 'OCCUPIED' ? 'sold' : 'not-yours';
		is(of($_ . '_seats', '101,102', 7), "101:ok 102:$why", "$_: " . join ' ', map { $_ // 'NULL' } @$other);
	}
	is(row(101), 'HOLD 7 f', '… nothing was changed');
}
is($SELLER->value("SELECT seatcast.confirm(1, 7, '{101,102}')"), 'conflict', 'in one word: conflict');
like($SELLER->error("SELECT * FROM seatcast.$_"), qr/needs a user|at least one/, "$_: refused in words") for
	"hold_seats(1, NULL, '{101}', '5 min', 0, NULL)", "hold_seats(1, 7, '{}', '5 min', 0, NULL)", "hold_seats(1, 7, '{101,NULL}', '5 min', 0, NULL)", "hold_seats(1, 7, '{101}', '0', 0, NULL)",
	"hold_seats(1, 7, NULL, '5 min', 0, NULL)", "release_seats(1, NULL, '{101}')", "confirm_seats(1, 7, '{NULL}')";

# ---- several seats ----

$db->query('DELETE FROM allocations');
is(hold('103,101,102,101', 7), '101:ok 102:ok 103:ok', 'three seats: each once, by id');
is(hold('104,103', 8), '103:held 104:ok', 'one is another\'s: refused');
is(row(104), '', '… and the other one is free');
is(hold('104,999', 7), '104:ok 999:unknown', 'one does not exist');
is(join(' ', map { $_->[0] } $SELLER->query("SELECT outcome FROM seatcast.hold_seats(2, 7, '{101}', '5 min', 0, NULL)")), 'unknown', '… nor does this match');
is(of('confirm_seats', '101,102', 7), '101:ok 102:ok', 'two confirmed');
is(of('confirm_seats', '101,102,103', 7), '101:ok 102:ok 103:ok', '… again, with the third: what is bought stays bought');
is(hold('101', 7), '101:sold', '… and is not to be held');
is(of('release_seats', '101', 7), '101:not-yours', '… nor given back');
is($SELLER->value("SELECT count(*) FROM seatcast.hold_seats(1, 7, '{105,106}', '5 min', 0, NULL) WHERE block_id = 101 AND hold_expires_at BETWEEN clock_timestamp() + interval '4 min' AND clock_timestamp() + interval '5 min'"), 2, 'each with its block and its end');

# ---- limits ----

$db->query('DELETE FROM allocations');
is(hold('101,102', 7, most => 2), '101:ok 102:ok', 'two of two');
is(hold('103', 7, most => 2), '103:limit', 'a third');
is(hold('101,102', 7, most => 2), '101:ok 102:ok', 'renewing is no third');
is(hold('101,102', 7, most => 1), '101:ok 102:ok', '… also when the limit has come down');
is(hold('102,103', 7, most => 2), '102:ok 103:limit', 'one of them and a third');
is(hold('103', 8, most => 2), '103:ok', 'another user has a limit of his own');
$db->query("UPDATE allocations SET hold_expires_at = '-infinity' WHERE seat_id = 101");
is(hold('104', 7, most => 2), '104:ok', 'what has ended does not count');
is(of('confirm_seats', '102,104', 7) . ' ' . hold('105,106', 7, most => 2), '102:ok 104:ok 105:ok 106:ok', 'nor what is bought');
my @same = map { $s->session(user => 'seatcast_writer') } 1 .. 8;
$db->query('BEGIN; LOCK TABLE allocations IN ACCESS EXCLUSIVE MODE');
$same[$_]->query("SET lock_timeout = '10s'"), $same[$_]->send("SELECT outcome FROM seatcast.hold_seats(1, 9, '{@{[ 110 + $_ ]}}', '5 min', 3, NULL)") for 0 .. $#same;
$db->query('COMMIT');
my %got;
$got{eval { ($_->result)[0][0] } // 'refused'}++ for @same;
my $held = $db->value("SELECT count(*) FROM allocations WHERE user_id = 9 AND status = 'HOLD'");
cmp_ok($held, '<=', 3, "eight requests of one user at one moment: $held held, " . join ', ', map { "$_ $got{$_}" } sort keys %got);

$db->query('DELETE FROM allocations');
is(hold('101', 7, for => '2 s', life => '3 s'), '101:ok', 'a hold with a lifetime');
my ($began) = $db->query("SELECT extract(epoch FROM clock_timestamp()), extract(epoch FROM hold_expires_at AT TIME ZONE 'UTC') FROM allocations");
$s->expect('time passes', sub { $db->value('SELECT extract(epoch FROM clock_timestamp())') > $began->[0] + 1.2 }, 10);
is(hold('101', 7, for => '2 s', life => '3 s'), '101:ok', 'renewed');
my $gain = $db->value("SELECT extract(epoch FROM hold_expires_at AT TIME ZONE 'UTC') FROM allocations") - $began->[1];
cmp_ok(abs($gain - 1), '<', 0.1, sprintf '… until its lifetime is over, %.2f s later than before', $gain);
is(hold('101,102', 7, for => '2 s', life => '3 s'), '101:limit 102:ok', '… and not again');
is(row(102), '', '… nor with another seat');
is(hold('102', 7, for => '5 min', life => '5 min'), '102:ok', 'a hold');
$db->query("UPDATE allocations SET hold_expires_at = now() AT TIME ZONE 'UTC' + interval '1 min' WHERE seat_id = 102");
is(hold('102', 7, for => '5 min', life => '5 min'), '102:ok', 'one that somebody else has written anew since: begins now');

# ---- a locked row, and other rules of the site ----

$db->query('DELETE FROM allocations');
hold('101,102', 7);
$db->query('BEGIN; SELECT FROM allocations WHERE seat_id = 101 FOR UPDATE');
for my $call ("hold_seats(1, 8, '{101}', '5 min', 0, NULL)", "hold_seats(1, 7, '{100,101,102,103}', '5 min', 5, '1 h')", "release_seats(1, 7, '{102,101}')", "confirm_seats(1, 7, '{101,102}')") {
	my $at = time;
	my $said = $SELLER->error("SELECT * FROM seatcast.$call");
	like($said, qr/canceling statement due to lock timeout/, "a locked row: $call is refused");
	cmp_ok(time - $at, '<', 0.2 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '… after %.0f ms', 1000 * (time - $at));
}
is(hold('104', 8), '104:ok', 'other seats are held meanwhile');
$db->query('ROLLBACK; CREATE TABLE paid (allocation bigint REFERENCES allocations (id)); BEGIN; INSERT INTO paid SELECT id FROM allocations WHERE seat_id = 101');
is(of('confirm_seats', '101', 7), '101:ok', 'a row that somebody refers to is not locked');
$db->query('ROLLBACK');
my $ids = $db->value("SELECT last_value FROM pg_sequences, pg_get_serial_sequence('allocations', 'id') q WHERE format('%I.%I', schemaname, sequencename) = q");
hold('102', $_) for 7, 8;
is($db->value("SELECT last_value FROM pg_sequences, pg_get_serial_sequence('allocations', 'id') q WHERE format('%I.%I', schemaname, sequencename) = q"), $ids, 'neither a refusal nor a renewal burns an id');
$db->query('CREATE UNIQUE INDEX ON allocations (user_id) WHERE status = \'HOLD\' AND user_id = 11');
like($SELLER->error("SELECT * FROM seatcast.hold_seats(1, 11, '{120,121}', '5 min', 0, NULL)"), qr/duplicate key value/, 'a rule of the site\'s own: its error');
is(row(120), '', '… and nothing is held');

# ---- fifty buyers of seats that have no row ----

$db->query('DELETE FROM allocations');
my @buyers = map { $s->session(user => 'seatcast_writer') } 1 .. 10;
for my $round (0 .. 2) {
	my @want = map { join ',', sort { rand() <=> 0.5 } 101 + 10 * $round .. 104 + 10 * $round } @buyers;
	$buyers[$_]->send("SELECT bool_and(outcome = 'ok') FROM seatcast.hold_seats(1, @{[ 20 + $_ ]}, '{$want[$_]}', '5 min', 0, NULL)") for 0 .. $#buyers;
	my @won = grep { eval { ($buyers[$_]->result)[0][0] eq 't' } } 0 .. $#buyers;
	is(scalar(@won), 1, "round $round: of ten buyers of the same four seats, which have no rows yet, one wins");
	is($db->value("SELECT count(DISTINCT user_id) || ' ' || count(*) FROM allocations WHERE seat_id BETWEEN @{[ 101 + 10 * $round ]} AND @{[ 104 + 10 * $round ]}"), '1 4', '… all of them');
}
$s->done(allow => qr/lock timeout|duplicate key|needs a user|at least one/);
