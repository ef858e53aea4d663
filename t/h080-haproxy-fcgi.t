#!/usr/bin/env perl
# HAProxy speaks FastCGI to seatcast by itself, with its sample: streams, snapshots, posts, clients that leave; and lets
# nothing through that is not for outsiders, however the path is written.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

plan skip_all => 'haproxy is not installed' if !have('haproxy');
my $s = Scenario->new(seats => 20, heartbeat => '1s');
my $stage = $s->{stage};
$s->stop_lighttpd;
start_haproxy_fcgi($stage);
$s->expect('it serves', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 10);

my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
is(scalar(keys %{$fan->{seats}}), 20, 'a stream begins, with all seats');
like($fan->{headers}{'content-type'}, qr{^text/event-stream}, '… its type');
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$fan->expect_seat(101 => 'HOLD', within => 2);
$fan->expect_event('beat', within => 5);

my $r = $s->http(GET => $s->snapshot_path(1, 101));
is($r->{status}, 200, 'a snapshot');
is($s->http(GET => $s->snapshot_path(1, 101), { 'If-None-Match' => $r->{headers}{etag} })->{status}, 304, '… its ETag: 304');
is($s->http(HEAD => $s->snapshot_path(1, 101))->{body}, '', '… by HEAD without a body');
is($s->http(POST => '/api/matches/1/allocation/seats/102/hold', { 'Content-Type' => 'application/json' }, '{"userId":7}')->{status}, 200, 'a hold');
$fan->expect_seat(102 => 'HOLD', within => 2);
is($s->http(GET => '/api/matches/1/blocks/999/seats')->{status}, 404, 'no such block: 404');

my $bad = 0;
for (1 .. 600) { $bad++ if ($s->http(GET => '/api/site/areas')->{status} // 0) != 200 }
is($bad, 0, '600 requests in turn: none failed');

my $gone = $s->client('who leaves')->watch(1, 101)->expect_event('init');
$s->expect_counter(viewers => 2);
$gone->close;
$s->expect_counter(viewers => 1);

for my $path ('//metrics', '/%6detrics', '/api/../status', '/api/%2e%2e/status', '/metrics/', '/api//site/areas', '/Metrics') {
	my $h = $s->http(GET => $path);
	is($h->{status}, 404, "GET $path: not let through");
}
$s->done;
