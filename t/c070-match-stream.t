#!/usr/bin/env perl
# SPEC 2a: the stream of a match: counts of all blocks, seats of those asked for; its bytes, its ids, who may go on with which,
# slow readers, the end of a hold, one poll for all.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 4);
# A third block between the two by its seats' ids, and one without seats.
$s->sql("INSERT INTO blocks (id, section_id, name) VALUES (103, 1, '103'), (104, 1, '104');
	INSERT INTO seats (id, block_id, row_number, seat_number) SELECT 500 + n, 103, 1, n FROM generate_series(1, 2) AS n");
my $path = '/api/matches/1/status-stream';
my $block = sub { my ($id, @n) = @_; return sprintf '{"id":%d,"available":%d,"hold":%d,"occupied":%d}', $id, @n };
my $count = sub { my ($id, @n) = @_; return sprintf qq(event: count\ndata: {"status":200,"data":{"blockId":%d,"available":%d,"hold":%d,"occupied":%d}}\n), $id, @n };
my $update = sub { my ($seat, $of, $status) = @_; return qq(event: update\ndata: {"status":200,"data":{"seatId":$seat,"blockId":$of,"status":"$status"}}\n) };
my $seat = sub { my ($id, $of, $status) = @_; return qq({"id":$id,"blockId":$of,"status":"$status"}) };
my $init = sub { my ($blocks, $seats) = @_; return qq(event: init\ndata: {"status":200,"data":{"blocks":[$blocks],"seats":[$seats]}}\n) };
my $id = qr/id: [0-9a-f]{8}-[1-9]\d*\n/;

# ---- bytes ----

my $all = $s->client('counts')->get($path)->expect_event('init');
my $some = $s->client('two blocks')->get("$path?blocks=101,103")->expect_event('init');
my $none = join ',', $block->(101, 4, 0, 0), $block->(102, 4, 0, 0), $block->(103, 2, 0, 0);
like($all->{body}, qr/\Aretry: [23]\d\d\d\n\n\Q@{[$init->($none, '')]}\E$id\n\z/, 'counts of all blocks that have seats, and no seats');
like($some->{body}, qr/\Aretry: [23]\d\d\d\n\n\Q@{[$init->($none, join ',', map({ $seat->($_, 101, 'AVAILABLE') } 101 .. 104), map { $seat->($_, 103, 'AVAILABLE') } 501, 502)]}\E$id\n\z/,
	'and with seats, by block and id');
my $others = $s->client('in another order')->get("$path?blocks=103,101")->expect_event('init');
is($others->{body} =~ s/\Aretry.*\n\n//r, $some->{body} =~ s/\Aretry.*\n\n//r, 'the order in which blocks are asked for is no matter: the same frame');
my $mark = length $some->{body};
my $mark_all = length $all->{body};
$s->sql("SELECT seatcast.hold(1, id, 7, '5m') FROM unnest(ARRAY[502, 103, 1000001]) AS g(id)");
$some->expect_event('count', blockId => 103);
$all->expect_event('count', blockId => 103);
my $counts = join "\n", $count->(101, 3, 1, 0), $count->(102, 3, 1, 0), $count->(103, 1, 1, 0);
like(substr($some->{body}, $mark), qr/\A\Q@{[join "\n", $update->(103, 101, 'HOLD'), $update->(502, 103, 'HOLD'), $counts]}\E$id\n\z/,
	'updates by id, then counts by id, and the id on the last');
like(substr($all->{body}, $mark_all), qr/\A\Q$counts\E$id\n\z/, 'counts alone where no seats were asked for');

# Two seats of a block change places: no count changes, so the id is on the last update; who looks elsewhere hears nothing.
$mark = length $some->{body};
$s->sql("BEGIN; SELECT seatcast.release(1, 103, 7); SELECT seatcast.hold(1, 104, 7, '5m'); COMMIT");
$some->expect_event('update', seatId => 104);
like(substr($some->{body}, $mark), qr/\A\Q@{[join "\n", $update->(103, 101, 'AVAILABLE'), $update->(104, 101, 'HOLD')]}\E$id\n\z/, 'no count that did not change');
$all->expect_silence(0.5);

# ---- the database: one question per tick ----

my ($since, $polls) = (time, $s->counter('polls', qr/match="1"/));
$s->pass_time(1.2);
my $n = $s->counter('polls', qr/match="1"/) - $polls;
cmp_ok($n, '<=', (time - $since) / 0.2 + 2, "three viewers, two views, one poll each 200 ms ($n)");
is($s->counter('viewers'), 3, 'all on one loop');
is(scalar(my @loops = $s->pids('loop')), 1, '… one process');

# ---- ids ----

my %id = (all => $all->{last_id}, some => $some->{last_id});
my $come = sub {
	my ($name, $blocks, $id) = @_;
	my $c = $s->client($name)->get("$path?blocks=$blocks", 'Last-Event-ID' => $id);
	$s->wait_for(sub { $c->{body} =~ /\n\n.+\n\n\z/s }, 5);
	my $got = join ' ', map { $_->{type} } $c->events;
	$c->close;
	return $got;
};
is($come->('the same', '101,103', $id{some}), 'beat', 'an id is good for the same blocks');
is($come->('fewer', '103', $id{some}), 'beat', '… and for fewer');
is($come->('none', '', $id{some}), 'beat', '… and for none');
is($come->('more', '101,102,103', $id{some}), 'init', 'more blocks: init');
is($come->('others', '102', $id{some}), 'init', 'others: init');
is($come->('some after none', '101', $id{all}), 'init', 'seats for who had counts alone: init');
my $of_block = $s->client('block')->watch(1, 101)->expect_event('init');
is($come->('of a block', '101', $of_block->{last_id}), 'init', 'the id of a block\'s stream is another loop\'s');
is($s->client('elsewhere')->watch(1, 101, 'Last-Event-ID' => $id{some})->expect_event('init')->close->events('beat'), 0, '… and the other way round');
$of_block->close;

$some->close;
$s->sql("SELECT seatcast.confirm(1, 7, '{104}'); SELECT seatcast.hold(1, 1000002, 8, '5m'); SELECT seatcast.hold(1, 501, 8, '5m')");
$all->expect_event('count', blockId => 103, hold => 2, within => 5);
my $fewer = $s->client('fewer')->get("$path?blocks=101", 'Last-Event-ID' => $id{some})->expect_event('count', blockId => 103);
like($fewer->{body}, qr/\Aretry: \d+\n\n\Q@{[join "\n", $update->(104, 101, 'OCCUPIED'), $count->(101, 3, 0, 1), $count->(102, 2, 2, 0), $count->(103, 0, 2, 0)]}\E$id\n\z/,
	'what changed while away, of what is looked at now');
$some->reconnect->expect_event('count', blockId => 103);
is(join(' ', map { $_->{type} . ($_->{json}{data}{seatId} // $_->{json}{data}{blockId}) } $some->events), 'update104 update501 count101 count102 count103', 'and of all that it had');

# ---- the end of a hold ----

$s->sql("SELECT seatcast.hold(1, 101, 9, '1500 ms')");
$some->expect_event('count', blockId => 101, hold => 1);
$some->expect_event('update', seatId => 101, status => 'AVAILABLE', within => 5);
$_->expect_event('count', blockId => 101, hold => 0, within => 5) for $some, $all;
is(($s->sql('SELECT status FROM allocations WHERE seat_id = 101'))[0][0], 'HOLD', 'a hold ends in seats and counts, and nobody wrote');

# ---- seats and blocks that come and go ----

my $inits = () = $all->events('init');
$s->sql("INSERT INTO seats (id, block_id, row_number, seat_number) VALUES (503, 103, 1, 3)");
$s->restart_seatcast(undef, reconcile_interval => '500ms');
$s->expect('lighttpd reaches the new seatcast', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 });
$_->reconnect->expect_event('init') for $all, $some;
$s->sql("INSERT INTO seats (id, block_id, row_number, seat_number) VALUES (504, 103, 1, 4)");
$all->expect_event('count', blockId => 103, available => 2);
$some->expect_event('init', sub { (grep { $_->{id} == 504 } @{$_->{json}{data}{seats}}) == 1 });
is(scalar(() = $all->events('init')), 1, 'a seat more: a count for who sees counts, init for who sees seats');
$s->sql("INSERT INTO seats (id, block_id, row_number, seat_number) VALUES (601, 104, 1, 1)");
$_->expect_event('init', sub { (grep { $_->{id} == 104 } @{$_->{json}{data}{blocks}}) == 1 }) for $all, $some;

# ---- a snapshot of the counts ----

my $r = $s->http(GET => '/api/matches/1/blocks');
is($r->{status}, 200, 'a snapshot');
my ($blocks) = ($all->events('init'))[-1]{data} =~ /("blocks":\[.*?\])/;
is($r->{body}, qq({"status":200,"data":{$blocks}}), 'the counts of init, to the byte');
is($r->{headers}{'cache-control'}, 'public, max-age=1, stale-while-revalidate=5', '… may be cached');
is($s->http(GET => '/api/matches/1/blocks', { 'If-None-Match' => $r->{headers}{etag} })->{status}, 304, '… and has an ETag');
$s->restart_seatcast;
$s->expect('lighttpd reaches the new seatcast', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 });
is($s->http(GET => '/api/matches/1/blocks')->{headers}{etag}, $r->{headers}{etag}, '… which another seatcast gives for the same');

# ---- what can't be ----

for my $bad ('blocks=0', 'blocks=101,101', 'blocks=101,', 'blocks=x', 'blocks=-1', 'blocks=' . join(',', 1 .. 17)) {
	is($s->http(GET => "$path?$bad")->{status}, 400, "$bad: 400");
}
is($s->http(GET => "$path?blocks=101,999")->{status}, 404, 'an unknown block: 404');
is($s->http(GET => '/api/matches/2/status-stream')->{status}, 404, 'an unknown match: 404');
is($s->http(GET => '/api/matches/2/blocks')->{status}, 404, '… its counts too');
$s->done;
