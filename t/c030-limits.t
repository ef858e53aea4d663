#!/usr/bin/env perl
# SPEC 1: --max-groups and --max-streams refuse politely: a block that finds no room is shown by the loop of its match, so it takes two
# matches to be refused.  An EventSource gets 200, a retry of 10 to 20 s, the event busy and
# the end; everybody else 503 with Retry-After.  Room is given to the next as soon as there is some.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 5, max_groups => 1, max_streams => 4, linger => '300ms');

sub expect_refusal {
	my ($path) = @_;
	my $c = $s->client("refused")->get($path)->expect_closed(how => 'clean', within => 3);
	is($c->{status}, 200, '… with 200');
	is($c->{headers}{'content-type'}, 'text/event-stream; charset=utf-8', '… an event stream');
	like($c->{body}, qr/\Aretry: \d+\n\nevent: busy\ndata: \{"status":503,"message":"[^"]+"\}\n\n\z/, '… to the byte');
	ok($c->{retry} >= 10_000 && $c->{retry} <= 20_000, "… retry $c->{retry}");
	for my $accept (undef, '*/*', 'application/json') {
		my $a = $s->http(GET => $path, { Accept => $accept });
		is($a->{status}, 503, 'Accept: ' . ($accept // 'none') . ': 503');
		like($a->{headers}{'retry-after'} // '', qr/\A[1-9]\d*\z/, '… Retry-After');
		like($a->{body}, qr/\A\{"status":503,"message":"[^"]+"\}\z/, '… the envelope');
	}
	return $c;
}

$s->sql("INSERT INTO matches (id, name) VALUES (2, 'Another')");
my @c = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 2;
my $match = $s->client('the whole match')->watch(1, 102)->expect_event('init');
expect_refusal($s->stream_path(2, 102));
is($s->http(GET => $s->snapshot_path(2, 102))->{status}, 503, 'a snapshot of it too');
is($s->http(HEAD => $s->stream_path(2, 102), { Accept => $_->[0] })->{status}, $_->[1], "HEAD of the stream, Accept $_->[0]: as GET")
	for ['*/*', 503], ['text/event-stream', 200];
$s->expect_counter(refused_groups => '>=', 5);
is(join(' ', sort map { $_->{retry} } grep { $_ } map { $s->client('r')->watch(2, 102)->expect_closed } 1 .. 3) =~ /(\d+) \1 \1/ ? 1 : 0, 0, 'retry is drawn');

push @c, $s->client('fan 3')->watch(1, 101)->expect_event('init');
expect_refusal($s->stream_path(1, 101));
$s->expect_counter(refused_streams => '>=', 4);
is($s->http(GET => $s->snapshot_path(1, 101))->{status}, 200, 'a snapshot is no stream');
is($s->http(GET => '/api/site/areas')->{status}, 200, '… nor is the rest');

(shift @c)->close;
my $next;
$s->expect('one leaves: the next is served', sub { my $e = ($next = $s->client('next')->watch(1, 101)) && $s->wait_for(sub { ($next->events)[0] }, 2); $e && $e->{type} eq 'init' });
$_->close for @c, $next, $match;
my $two;
$s->expect('all leave: the other block is served', sub { my $e = ($two = $s->client('two')->watch(2, 102)) && $s->wait_for(sub { ($two->events)[0] }, 2); $e && $e->{type} eq 'init' });
$s->sql("SELECT seatcast.hold(2, 1000001, 7, '5m')");
$two->expect_seat(1000001 => 'HOLD');
cmp_ok(scalar($s->pids('loop')), '<=', 2, 'never more loops than --max-groups of blocks, and as many of matches') or diag(join ' ', $s->pids('loop'));
$s->done;
