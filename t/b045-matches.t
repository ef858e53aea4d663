#!/usr/bin/env perl
# SPEC 1: the matches, the stadium in one answer, counts and changes; what is malformed, unknown or not allowed.  A write through
# seatcast, and one that the site tells of, is at the viewers at once.  Whether a block exists is asked once, however many come.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 20, lighttpd => 0, poll_interval => '5s');
my $stream = '/api/matches/1/status-stream';
sub ask { my ($method, $path, %h) = @_; return $s->fcgi->request(method => $method, path => $path, headers => \%h)->answer(10) }
sub is_error {
	my ($a, $status, $says) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like("$a->{status} $a->{body}", qr/\A$status \{"status":$status,"message":"[^"]+"\}\z/, "$status: $says");
	return;
}

# ---- the stadium ----

is(ask(GET => '/api/matches')->{body}, '{"status":200,"data":{"matches":[' . join(',', map { qq({"id":$_->[0],"name":"$_->[1]"}) }
	$s->sql('SELECT id, name FROM matches ORDER BY id')) . ']}}', 'matches');
my $a = ask(GET => '/api/site/stadium');
is($a->{status}, 200, 'the stadium');
my @rows = $s->sql('SELECT a.id, a.name, s.id, s.name, b.id, b.name FROM areas a LEFT JOIN sections s ON s.area_id = a.id LEFT JOIN blocks b ON b.section_id = s.id ORDER BY 1, 3, 5');
my $json = JSON::PP::decode_json($a->{body});
my @flat = map { my $area = $_; map { my $section = $_; map { [$area->{id}, $area->{name}, $section->{id}, $section->{name}, $_->{id}, $_->{name}] } @{$section->{blocks}} }
	@{$area->{sections}} } @{$json->{data}{areas}};
is_deeply(\@flat, \@rows, '… is what the tables say') or diag($a->{body});
my $etag = $a->{headers}{etag};
like($etag, qr/\A"[0-9a-f]{16}"\z/, '… has an ETag');
is($a->{headers}{'cache-control'}, 'public, max-age=60', '… and may be cached for a minute');
for my $tag ($etag, "W/$etag", $etag =~ s/"\z/-gzip"/r, qq("x", $etag)) {
	my $b = ask(GET => '/api/site/stadium', 'If-None-Match' => $tag);
	is($b->{status}, 304, "If-None-Match $tag");
	is($b->{headers}{etag}, $etag, '… with its ETag');
}
$s->sql("INSERT INTO areas (id, name) VALUES (77, 'empty \"area\"')");
$s->sql("INSERT INTO sections (id, area_id, name) SELECT 78, min(id), 'no blocks' FROM areas");
my $b = ask(GET => '/api/site/stadium', 'If-None-Match' => $etag);
is($b->{status}, 200, 'another stadium');
isnt($b->{headers}{etag}, $etag, '… has another ETag');
like($b->{body}, qr/\{"id":77,"name":"empty \\"area\\"","sections":\[\]\}\]\}\}\z/, '… an area without sections has an empty list');
like($b->{body}, qr/\{"id":78,"name":"no blocks","blocks":\[\]\}/, '… and a section without blocks');
ok(JSON::PP::decode_json($b->{body}), '… it is JSON');
is(ask(HEAD => '/api/site/stadium')->{headers}{'content-length'}, length $b->{body}, 'HEAD knows its length');

# ---- what a stream of a match may be asked for ----

is_error(ask(GET => "$stream?blocks=$_"), 400, "blocks=$_") for '101,101', '0', '-1', 'x', '101,', ',101', '101,,102', '101%00', '01', '%', '101;102', ' 101',
	'9223372036854775808', join(',', 1 .. 17), join(',', map { 9223372036854775000 + $_ } 1 .. 40);
is_error(ask(GET => "$stream?blocks=$_"), 404, "blocks=$_") for '999', '101,999', join(',', map { 9223372036854775000 + $_ } 1 .. 16);
is_error(ask(GET => '/api/matches/9/status-stream'), 404, 'an unknown match');
is_error(ask(GET => '/api/matches/9/status-stream?blocks=101'), 404, '… with a block');
is_error(ask(GET => '/api/matches/9/blocks'), 404, 'counts of an unknown match');
is_error(ask(GET => '/api/matches/0/status-stream'), 400, 'a malformed match');
is_deeply([$s->pids('loop')], [], 'none of these made a loop');
is(ask(HEAD => "$stream?blocks=$_->[0]")->{status}, $_->[1], "HEAD $_->[2]") for ['101', 200, 'of a stream'], ['', 200, 'without blocks'], ['101%2C102', 200, 'with a comma encoded'],
	['999', 404, 'of an unknown block'], ['x', 400, 'of a malformed one'];
is(ask(HEAD => $s->stream_path(1, 9))->{status}, 404, 'HEAD of an unknown block');
is(ask(POST => $stream)->{headers}{allow}, 'GET, HEAD', 'Allow');
is_error(ask(GET => '/api/matches/1/blocks/9/seats/changes'), 404, 'changes of an unknown block');

# ---- changed ----

$a = ask(POST => '/api/matches/1/blocks/101/seats/changed');
is("$a->{status} $a->{body}", '204 ', 'changed, where nobody watches');
is(ask(POST => '/api/matches/1/blocks/x/seats/changed')->{status}, 400, '… malformed');
is(ask(GET => '/api/matches/1/blocks/101/seats/changed')->{headers}{allow}, 'POST', '… Allow');
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
$s->pass_time(0.3);
for my $round (1 .. 3) {
	my $t = time;
	$a = $s->http(POST => '/api/matches/1/allocation/seats/hold', {}, { userId => 7, seatIds => [100 + $round, 105 + $round] });
	is($a->{status}, 200, 'two seats held');
	$fan->expect_seat(100 + $round => 'HOLD', 105 + $round => 'HOLD', within => 2);
	cmp_ok(time - $t, '<', 1, sprintf '… and seen after %.0f ms, long before the next poll', 1000 * (time - $t));
	$s->pass_time(0.2);
}
$s->sql("UPDATE allocations SET status = 'OCCUPIED' WHERE seat_id = 101");
my $t = time;
ask(POST => '/api/matches/1/blocks/101/seats/changed');
$fan->expect_seat(101 => 'OCCUPIED', within => 2);
cmp_ok(time - $t, '<', 1, sprintf 'what the site wrote and told of, after %.0f ms', 1000 * (time - $t));

# ---- everybody comes at once ----

$s->pg_freeze;
my @crowd = map { $s->client("viewer $_")->watch(1, 102) } 1 .. 100;
$s->pass_time(0.5);
$s->pg_thaw;
$s->wait_for(sub { !grep { !$_->events('init') } @crowd }, 10);
is(scalar(grep { $_->events('init') } @crowd), 100, 'a hundred come before the block is live');
my $asked = () = $s->log_text('postgresql') =~ /block_exists\([^\n]*\n[^\n]*DETAIL:  parameters: \$1 = '1', \$2 = '102'/g;
cmp_ok($asked, '<=', 2, "… whether it exists was asked $asked times, by two workers");
$s->done;
