#!/usr/bin/env perl
# SPEC 1: several seats at once, all or nothing.  A 409 names each seat that was in the way, and why.  --max-seats, --max-holds and
# --hold-lifetime bound what one may have.  Of fifty buyers with overlapping baskets of four seats nobody gets half a basket, no
# seat is had twice, and no database error reaches anybody.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use List::Util qw(shuffle);

my $s = Scenario->new(seats => 40, max_seats => 6, max_holds => 5, hold_duration => '30s', hold_lifetime => '1m');
sub post { my ($what, $body) = @_; return $s->http(POST => "/api/matches/1/allocation/seats/$what", {}, $body) }
sub rows { return { map { ($_->[0] => "$_->[1] $_->[2]") } $s->sql(q{SELECT seat_id, status, coalesce(user_id::text, '-') FROM allocations
	WHERE match_id = 1 AND status <> 'AVAILABLE' ORDER BY 1}) } }
sub is_conflict {
	my ($a, $says, @seats) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $list = join ',', map { "\\{\"seatId\":$_->[0],\"reason\":\"$_->[1]\"\\}" } @seats;
	like("$a->{status} $a->{body}", qr/\A409 \{"status":409,"message":"[^"]+","data":\{"seats":\[$list\]\}\}\z/, "409: $says");
	return;
}

# ---- to the byte ----

my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
my $a = post('hold', { userId => 7, seatIds => [101, 102] });
my $time = qr/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/;
like("$a->{status} $a->{body}", qr/\A200 \{"status":200,"data":\{"heldSeats":\[\{"seatId":101,"status":"HOLD","holdExpiresAt":$time\},\{"seatId":102,"status":"HOLD","holdExpiresAt":$time\}\]\}\}\z/,
	'two seats held');
$fan->expect_seat(101 => 'HOLD', 102 => 'HOLD');
like(post('hold', { userId => 7, seatIds => [102, 101] })->{body}, qr/"heldSeats":\[\{"seatId":102,.*"seatId":101,/, 'again: renewed, in the order asked for');
is_conflict(post('hold', { userId => 8, seatIds => [103, 102, 104] }), 'one is held by another', [102, 'held']);
is_deeply(rows(), { 101 => 'HOLD 7', 102 => 'HOLD 7' }, '… and nothing changed');
is(post('confirm', { userId => 7, seatIds => [101] })->{status}, 200, '101 is sold');
is_conflict(post('hold', { userId => 8, seatIds => [101, 102, 103] }), 'two reasons', [101, 'sold'], [102, 'held']);
is_conflict(post('release', { userId => 8, seatIds => [102, 103] }), 'release of what is not ours', [102, 'not-yours'], [103, 'not-yours']);
$a = post('release', { userId => 7, seatIds => [102] });
is("$a->{status} $a->{body}", '204 ', 'release');
$fan->expect_seat(101 => 'OCCUPIED', 102 => 'AVAILABLE');
is(post('hold', { userId => 8, seatIds => [102, 999] })->{status}, 404, 'an unknown seat');
is($s->http(POST => '/api/matches/9/allocation/seats/hold', {}, { userId => 8, seatIds => [102] })->{status}, 404, 'an unknown match');
is_deeply(rows(), { 101 => 'OCCUPIED 7' }, '… and nothing changed');

# ---- what one may ask for, and have ----

is(post($_->[0], $_->[1])->{status}, 400, "$_->[0] $_->[2]") for
	(map { my $what = $_; map { [$what, @$_] }
		['{"userId":8}', 'without seatIds'], ['{"userId":8,"seatIds":[]}', 'of no seats'], ['{"userId":8,"seatIds":[103,103]}', 'of one seat twice'],
		['{"seatIds":[103]}', 'without userId'], ['{"userId":8,"seatIds":[101,102,103,104,105,106,107]}', 'of more than --max-seats'],
		['{"userId":8,"seatIds":[103],"x":1}', 'with another member'], ['{"userId":8,"seatIds":[' . join(',', 1 .. 1500) . ']}', 'of very many'] }
		qw(hold release confirm)), ['103/hold', '{"userId":8,"seatIds":[103]}', 'one seat, with seatIds'];
is(post('hold', { userId => 8, seatIds => [103 .. 107] })->{status}, 200, 'five are --max-holds');
is_conflict(post('108/hold', { userId => 8 }), 'a sixth', [108, 'limit']);
is(post('103/hold', { userId => 8 })->{status}, 200, '… renewing one is none more');
is(post('release', { userId => 8, seatIds => [103 .. 107] })->{status}, 204, 'all released');
is_deeply(rows(), { 101 => 'OCCUPIED 7' }, '… and free');

# ---- a rule of the site's own ----

$s->sql(q{CREATE FUNCTION no_seat_113() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.seat_id = 113 AND NEW.status <> 'AVAILABLE' THEN RAISE EXCEPTION 'seat 113 is "unlucky"'; END IF; RETURN NEW; END $$});
$s->sql('CREATE TRIGGER no_seat_113 BEFORE INSERT OR UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION no_seat_113()');
$a = post('113/hold', { userId => 8 });
is("$a->{status} $a->{body}", '409 {"status":409,"message":"seat 113 is \"unlucky\""}', 'what a trigger raises is a conflict, in its words');
$s->sql('DROP TRIGGER no_seat_113 ON allocations');
$s->sql('ALTER TABLE allocations ADD CONSTRAINT no_user_13 CHECK (user_id <> 13)');
$a = post('hold', { userId => 13, seatIds => [113, 114] });
like("$a->{status} $a->{body}", qr/\A409 \{"status":409,"message":".*no_user_13.*"\}\z/, '… and what a constraint refuses');
$s->sql('ALTER TABLE allocations DROP CONSTRAINT no_user_13');

# ---- fifty buyers, baskets of four out of twelve ----

my $rounds = $ENV{ROUNDS} // 10;
my (%status, $twice, $partial, $nameless) = ();
for my $round (1 .. $rounds) {
	$s->sql('DELETE FROM allocations');
	my @buyers = map { my @basket = (shuffle 121 .. 132)[0 .. 3];
		$s->client("buyer $_")->request(POST => '/api/matches/1/allocation/seats/hold', {}, "{\"userId\":$_,\"seatIds\":[" . join(',', @basket) . ']}')
	} 1001 .. 1050;
	$s->wait_for(sub { !grep { !$_->{closed} } @buyers }, 30);
	my $rows = rows();
	my %has;
	$has{(split ' ', $rows->{$_})[1]}++ for keys %$rows;
	for my $b (@buyers) {
		my ($user) = $b->{name} =~ /(\d+)/;
		$status{$b->{status} // 'none'}++;
		$partial++ if ($has{$user} // 0) != (($b->{status} // 0) == 200 ? 4 : 0);
		$nameless++ if ($b->{status} // 0) == 409 && $b->{body} !~ /"seats":\[\{"seatId":1[23]\d,"reason":"held"\}/;
	}
	$s->{clients} = [grep { $_->{name} !~ /^buyer/ } @{$s->{clients}}];
}
note(join ', ', map { "$status{$_} × $_" } sort keys %status);
is(join(' ', grep { !/^(?:200|409)$/ } sort keys %status), '', "$rounds rounds of fifty buyers: 200 or 409 and nothing else");
cmp_ok($status{200}, '>=', $rounds, '… somebody gets a basket each time');
is($partial // 0, 0, '… who got 200 has all four, who got 409 none');
is($nameless // 0, 0, '… each 409 names its seats');
unlike($s->log_text('postgresql'), qr/deadlock detected/, '… and no deadlock');
$s->expect_counter(worker_restarts => 0);

# ---- how long a hold may be carried on ----

$s->restart_seatcast('TERM', hold_lifetime => '1s', hold_duration => '2m', max_holds => undef, max_seats => undef);
is(post('140/hold', { userId => 8 })->{status}, 200, 'held');
$s->expect('… and carried on until its lifetime is used up: 409', sub { ($a = post('140/hold', { userId => 8 }))->{status} == 409 }, 5);
is_conflict($a, '… by the limit', [140, 'limit']);
$s->done;
