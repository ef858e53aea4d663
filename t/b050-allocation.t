#!/usr/bin/env perl
# SPEC 1: hold, release and confirm; who gets the seat; bodies are strict JSON; of fifty buyers of one seat exactly one wins.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 20, hold_duration => '2m');
sub post { my ($what, $body) = @_; return $s->http(POST => "/api/matches/1/allocation/seats/$what", {}, $body) }
sub is_error {
	my ($a, $status, $says) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(($a->{status} // 0) == $status && $a->{body} =~ /\A\{"status":$status,"message":"[^"]+"\}\z/
		&& $a->{headers}{'content-type'} eq 'application/json', "$status: $says") or diag("got ", $a->{status} // 'nothing', " ", $a->{body} // '');
	return;
}
sub is_conflict {	# each of [seat, reason] and no other
	my ($a, $says, @seats) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $list = join ',', map { "\\{\"seatId\":$_->[0],\"reason\":\"$_->[1]\"\\}" } @seats;
	ok(($a->{status} // 0) == 409 && $a->{body} =~ /\A\{"status":409,"message":"[^"]+","data":\{"seats":\[$list\]\}\}\z/
		&& $a->{headers}{'content-type'} eq 'application/json', "409: $says") or diag("got ", $a->{status} // 'nothing', " ", $a->{body} // '');
	return;
}
sub row { my ($seat) = @_; my ($r) = $s->sql("SELECT concat_ws(' ', status, user_id) FROM allocations WHERE match_id = 1 AND seat_id = $seat"); return $r && $r->[0] }
sub seconds_left { my ($at) = @_; my ($r) = $s->sql("SELECT extract(epoch FROM '$at'::timestamptz - clock_timestamp())"); return $r->[0] }
sub let_expire { my ($seat) = @_; $s->sql("UPDATE allocations SET hold_expires_at = (now() - interval '1s') AT TIME ZONE 'UTC' WHERE seat_id = $seat") }

# ---- one seat's way ----

my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my $a = post('101/hold', { userId => 7 });
is($a->{status}, 200, 'hold');
like($a->{body}, qr/\A\{"status":200,"data":\{"seatId":101,"status":"HOLD","holdExpiresAt":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"\}\}\z/, '… to the byte');
is($a->{headers}{'content-type'}, 'application/json', '… is JSON');
my $until = $a->{json}{data}{holdExpiresAt};
cmp_ok(abs(seconds_left($until) - 120), '<', 5, 'it lasts --hold-duration');
$c->expect_seat(101 => 'HOLD');
is_conflict(post('101/hold', { userId => 8 }), 'another user', [101, 'held']);
is(row(101), 'HOLD 7', '… changes nothing');
my $again = post('101/hold', { userId => 7 });
is($again->{status}, 200, 'the same user renews');
cmp_ok($again->{json}{data}{holdExpiresAt}, 'gt', $until, '… until later');
is_conflict(post('101/release', { userId => 8 }), 'release by another', [101, 'not-yours']);
$a = post('101/release', { userId => 7 });
is($a->{status}, 204, 'release');
is($a->{body}, '', '… without a body');
$c->expect_seat(101 => 'AVAILABLE');
is_conflict(post('101/release', { userId => 7 }), 'release again', [101, 'not-yours']);
is_conflict(post('102/release', { userId => 7 }), 'release of what nobody ever held', [102, 'not-yours']);

is(post('103/hold', { userId => 7 })->{status}, 200, 'hold 103');
let_expire(103);
is_conflict(post('103/release', { userId => 7 }), 'release of an expired hold', [103, 'not-yours']);
is_conflict(post('confirm', { userId => 7, seatIds => [103] }), 'confirmation of an expired hold', [103, 'not-yours']);
is(post('103/hold', { userId => 8 })->{status}, 200, 'an expired hold can be taken by another');
is(row(103), 'HOLD 8', '… and is theirs');

# ---- confirm: all or nothing ----

post("$_/hold", { userId => 9 }) for 104, 105, 106;
is_conflict(post('confirm', { userId => 9, seatIds => [104, 105, 103] }), 'one of three is not ours', [103, 'not-yours']);
is_conflict(post('confirm', { userId => 9, seatIds => [104, 107] }), 'one was never held', [107, 'not-yours']);
let_expire(106);
is_conflict(post('confirm', { userId => 9, seatIds => [106, 105, 104] }), 'one has expired', [106, 'not-yours']);
is_error(post('confirm', { userId => 9, seatIds => [104, 999] }), 404, 'one does not exist');
is(join(', ', map { row($_) } 103 .. 106), 'HOLD 8, HOLD 9, HOLD 9, HOLD 9', '… nothing changed');
$a = post('confirm', { userId => 9, seatIds => [105, 104] });
is($a->{status}, 200, 'both ours');
is($a->{body}, '{"status":200,"data":{"confirmedSeats":[{"seatId":105,"status":"OCCUPIED"},{"seatId":104,"status":"OCCUPIED"}]}}', '… confirmed, in the order asked for');
is_conflict(post('104/hold', { userId => 10 }), 'a sold seat is not to be had', [104, 'sold']);
my $own = post('104/hold', { userId => 9 });
is_conflict($own, '… not by its owner either', [104, 'sold']);
unlike($own->{body}, qr/another user|somebody else/, '… who is not told that somebody else has it');
is_conflict(post('104/release', { userId => 9 }), '… nor given back', [104, 'not-yours']);
is(post('confirm', { userId => 9, seatIds => [105, 104] })->{status}, 200, 'confirmed again by the same user: 200 again');
is(post('confirm', { userId => 10, seatIds => [104] })->{status}, 409, '… by another: 409');
$c->expect_seat(103 => 'HOLD', 104 => 'OCCUPIED', 105 => 'OCCUPIED', 106 => 'AVAILABLE');

# ---- strict JSON ----

is($s->fcgi->request(method => 'POST', path => '/api/matches/1/allocation/seats/107/hold', env => [REQUEST_METHOD => 'POST',
	SCRIPT_NAME => '/api/matches/1/allocation/seats/107/hold', CONTENT_LENGTH => 500], body => '{"userId":7}')->answer->{status}, 400, 'a body that was cut short');

my $deep = '[' x 5000 . ']' x 5000;
my @bad = ('', ' ', '{', '{}', 'null', '7', '"userId"', '[]', '[{"userId":7}]', '{"userId":7}x', '{"userId":7}{"userId":7}', '{"userId":7}]',
	'{"userId":7,"userId":7}', '{"userId":7,"userId":8}', '{"userId":7,"\u0075serId":8}', '{"userId":7,}', '{,"userId":7}', '{"userId" 7}',
	'{"userId":7.0}', '{"userId":7.5}', '{"userId":7e0}', '{"userId":1E2}', '{"userId":"7"}', '{"userId":true}', '{"userId":null}',
	'{"userId":[7]}', '{"userId":{}}', '{"userId":0}', '{"userId":-0}', '{"userId":-7}', '{"userId":+7}', '{"userId":07}', '{"userId":0x7}',
	'{"userId":9223372036854775808}', '{"userId":-9223372036854775809}', '{"userId":18446744073709551617}', '{"userId":99999999999999999999999}',
	'{"userId":NaN}', '{"userId":Infinity}', '{userId:7}', "{'userId':7}", '{"userid":7}', '{"userId":7}/* */', '{"userId":7 // x' . "\n}",
	"\xef\xbb\xbf{\"userId\":7}", "{\"userId\":7,\"x\":\"\xff\"}", "{\"userId\":7}\0", "{\"userId\":7\0}", "{\"userId\":7,\"x\":\"\n\"}",
	"{\"userId\":7,\"x\":$deep}", $deep, '{"a":' x 2000 . '1' . '}' x 2000, 'userId=7');
my %answers = map { ($_ => $s->fcgi->request(method => 'POST', path => '/api/matches/1/allocation/seats/110/hold', body => $_)->answer) } @bad;
is_error($answers{$_}, 400, 'body ' . (length > 60 ? substr($_, 0, 30) . '…' : s/([^ -~])/sprintf '\x%02x', ord $1/ger)) for @bad;
is(row(110), undef, '… none of them held the seat');
is_error(post('confirm', "{\"userId\":9,\"seatIds\":$_}"), 400, "seatIds $_") for '[]', '{}', '101', 'null', '["101"]', '[101.0]', '[101,null]',
	'[0]', '[-1]', '[9223372036854775808]', '[[101]]', '[101,]', '[101 102]';
is_error(post('confirm', '{"userId":9}'), 400, 'no seatIds');
is(post('111/hold', " {\r\n\t\"userId\" : 9223372036854775807 } \n")->{status}, 200, 'white space and the highest id are fine');
is(row(111), 'HOLD 9223372036854775807', '… to the last digit');

# ---- what the body is said to be ----

for my $type ('application/json', 'application/json; charset=utf-8', 'APPLICATION/Json;x="y"', 'application/vnd.site+json', 'application/merge-patch+JSON ; q=1', undef) {
	is($s->http(POST => '/api/matches/1/allocation/seats/111/hold', { 'Content-Type' => $type }, '{"userId":9223372036854775807}')->{status}, 200, 'Content-Type ' . ($type // 'not given'));
}
is_error($s->http(POST => '/api/matches/1/allocation/seats/111/hold', { 'Content-Type' => $_ }, '{"userId":9223372036854775807}'), 415, "Content-Type $_")
	for 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/jsonx', 'application/xjson', 'text/json', '+json', 'json';

# ---- fifty buyers ----

for my $round (0 .. 2) {
	my $seat = 112 + $round;
	my @buyers = map { $s->client("buyer $_")->request(POST => "/api/matches/1/allocation/seats/$seat/hold", {}, "{\"userId\":$_}") } 1001 .. 1050;
	$s->wait_for(sub { !grep { !$_->{closed} } @buyers });
	my @won = grep { $_->{status} == 200 } @buyers;
	is(@won, 1, "of fifty buyers of seat $seat one wins");
	is(scalar(grep { $_->{status} == 409 } @buyers), 49, '… and 49 are told so');
	is('buyer ' . (split ' ', row($seat))[1], $won[0]{name}, '… and it is theirs');
}
$s->expect_counter(worker_restarts => 0);
$s->done;
