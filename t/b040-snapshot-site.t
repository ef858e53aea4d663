#!/usr/bin/env perl
# SPEC 1: the snapshot is the init event's body, from memory, with ETag and cache headers; the site's lists.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 3);
my $path = $s->snapshot_path(1, 101);
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
my $get = sub { my (@h) = @_; return $s->http(GET => $path, {@h}) };

my $a = $get->();
is($a->{status}, 200, 'a snapshot');
is($a->{headers}{'content-type'}, 'application/json', '… is JSON');
is($a->{headers}{'cache-control'}, 'public, max-age=1, stale-while-revalidate=5', '… may be cached');
is($a->{body}, '{"status":200,"data":{"seats":[{"id":101,"status":"AVAILABLE"},{"id":102,"status":"AVAILABLE"},{"id":103,"status":"AVAILABLE"}]}}',
	'… to the byte');
is($a->{body}, ($c->events('init'))[0]{data}, '… the body of init');
my $tag = $a->{headers}{etag};
like($tag, qr/\A(?:W\/)?"[!#-~]+"\z/, 'it has an ETag');

for my $match ($tag, "\"other\", $tag", "W/$tag", '*') {
	my $n = $get->('If-None-Match' => $match);
	is($n->{status}, 304, "If-None-Match: $match");
	is($n->{body}, '', '… no body');
	is($n->{headers}{etag}, $tag, '… the ETag again');
	is($n->{headers}{'cache-control'}, $a->{headers}{'cache-control'}, '… and Cache-Control');
}
is($get->('If-None-Match' => $_)->{status}, 200, "If-None-Match: $_ is another") for '"other"', 'garbage', '""';

# Never a query of its own: while a viewer watches, the polls are as many as without snapshots.
my ($polls, $exact) = ($s->queries(101), $s->counter('polls'));
is($get->()->{status}, 200, "snapshot $_") for 1 .. 30;
$s->expect_counter(polls => '>', $exact + 2);
$s->pass_time(0.05);
cmp_ok(abs(($s->queries(101) - $polls) - ($s->counter('polls') - $exact)), '<=', 1, '30 snapshots: no query but the polls');

$s->sql("SELECT seatcast.hold(1, 102, 7, '5m')");
$c->expect_seat(102 => 'HOLD');
my $b = $get->('If-None-Match' => $tag);
is($b->{status}, 200, 'after a change: the new state');
isnt($b->{headers}{etag}, $tag, '… with a new ETag');
like($b->{body}, qr/"id":102,"status":"HOLD"/, '… as viewers have it');

# Without any viewer, too, and never an old state.
$c->close;
$s->expect_counter(viewers => 0);
$s->sql("SELECT seatcast.confirm(1, 7, '{102}')");
$s->pass_time(0.3);
like($get->()->{body}, qr/"id":102,"status":"OCCUPIED"/, 'after a pause without viewers: the state of now');
like($s->http(GET => $s->snapshot_path(1, 102))->{body}, qr/\A\{"status":200,"data":\{"seats":\[\{"id":1000001,"status":"AVAILABLE"\}/, 'another block, never watched');
is($s->fcgi->request(path => $path, id => 7)->answer->{protocol_status}, 0, 'a snapshot for request id 7');

# ---- site ----

$s->sql(q(INSERT INTO areas (id, name) VALUES (2, '남쪽 "S\ud"'), (3, 'Empty')));
my %site = (
	'/api/site/areas' => '{"areas":[{"id":1,"name":"North"},{"id":2,"name":"남쪽 \"S\\\\ud\""},{"id":3,"name":"Empty"}]}',
	'/api/site/areas/1/sections' => '{"sections":[{"id":1,"name":"Lower"}]}',
	'/api/site/areas/3/sections' => '{"sections":[]}',
	'/api/site/sections/1/blocks' => '{"blocks":[{"id":101,"name":"101"},{"id":102,"name":"102"}]}',
	'/api/site/blocks/101/seats' => '{"seats":[' . join(',', map { qq({"id":10$_,"rowNumber":1,"seatNumber":$_}) } 1 .. 3) . ']}',
);
for my $p (sort keys %site) {
	my $r = $s->http(GET => $p);
	is($r->{status}, 200, $p);
	is($r->{headers}{'content-type'}, 'application/json', '… is JSON');
	is($r->{body}, qq({"status":200,"data":$site{$p}}), '… to the byte');
}
$s->done;
