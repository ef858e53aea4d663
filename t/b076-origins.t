#!/usr/bin/env perl
# --allow-origin: pages of these origins, and no others, may use streams, snapshots, changes, the stadium and allocation; with
# credentials, hence by name and never with a star.  Refusals say so too: an EventSource gives up for good on what it may not read.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $ours = 'https://shop.example';
my $s = Scenario->new(seats => 5, lighttpd => 0, allow_origin => "$ours,https://tickets.example:8443");
sub ask { my ($method, $path, $origin, %o) = @_; return $s->fcgi->request(method => $method, path => $path, body => $o{body},
	headers => { defined $origin ? (Origin => $origin) : (), %{$o{headers} // {}} })->answer }
sub cors { my ($a) = @_; return { map { ($_ => $a->{headers}{$_}) } grep { /^(?:vary|access-control-)/ } sort keys %{$a->{headers} // {}} } }
my $open = { vary => 'Origin', 'access-control-allow-origin' => $ours, 'access-control-allow-credentials' => 'true',
	'access-control-expose-headers' => 'ETag, Age, As-Of, Retry-After' };
my $seats = $s->snapshot_path(1, 101);
my $hold = '/api/matches/1/allocation/seats/101/hold';

my $fan = $s->client('fan')->watch(1, 101, Origin => $ours)->expect_event('init');
is_deeply(cors($fan), $open, 'a stream');
for my $path ($seats, "$seats/changes", '/api/matches/1/blocks', '/api/matches', '/api/site/stadium', '/api/site/areas') {
	my $a = ask(GET => $path, $ours);
	is($a->{status}, 200, $path);
	is_deeply(cors($a), $open, '… for our page');
	is(cors(ask(GET => $path, 'https://tickets.example:8443'))->{'access-control-allow-origin'}, 'https://tickets.example:8443', '… and the other one');
	is_deeply(cors(ask(GET => $path, $_)), { vary => 'Origin' }, '… not for ' . ($_ // 'no origin'))
		for undef, 'https://evil.example', 'http://shop.example', 'https://shop.example:443', 'https://shop.example.evil.example', 'null', '*', '', ',', 'https://shop.exampl';
}
my $a = ask(POST => $hold, $ours, body => '{"userId":7}');
is($a->{status}, 200, 'hold');
is_deeply(cors($a), $open, '… for our page');
$a = ask(POST => $hold, $ours, body => '{"userId":8}');
is($a->{status}, 409, 'an error');
is_deeply(cors($a), $open, '… is to be read too');
is_deeply(cors(ask(GET => $s->stream_path(1, 9), $ours)), $open, '… 404 of a stream');
is_deeply(cors(ask(HEAD => $s->stream_path(1, 101), $ours)), $open, 'HEAD');

# ---- preflight ----

my %asks = ('Access-Control-Request-Method' => 'POST', 'Access-Control-Request-Headers' => 'content-type');
$a = ask(OPTIONS => $hold, $ours, headers => \%asks);
is($a->{status}, 204, 'preflight');
is($a->{headers}{'access-control-allow-methods'}, 'POST', '… methods');
like($a->{headers}{'access-control-allow-headers'}, qr/\bContent-Type\b.*\bLast-Event-ID\b/, '… headers');
cmp_ok($a->{headers}{'access-control-max-age'}, '>=', 600, '… for a while');
is($a->{headers}{'access-control-allow-origin'}, $ours, '… and the origin by name');
is($a->{headers}{vary}, 'Origin', '… Vary');
is(ask(OPTIONS => $seats, $ours)->{headers}{'access-control-allow-methods'}, 'GET, HEAD', '… of a snapshot');
for my $origin (undef, 'https://evil.example') {
	$a = ask(OPTIONS => $hold, $origin, headers => \%asks);
	is($a->{status}, 405, 'no preflight for ' . ($origin // 'no origin'));
	is_deeply([sort grep { /^access/ } keys %{$a->{headers}}], [], '… and no word of CORS');
}
is(ask(OPTIONS => '/api/nothing', $ours)->{status}, 404, 'a preflight for no path');
for my $path ('/metrics', '/status', '/healthz', '/readyz') {
	is_deeply(cors(ask(GET => $path, $ours)), {}, "$path is no page's business");
	is(ask(OPTIONS => $path, $ours)->{status}, 405, '… nor a preflight');
}

# ---- refusals ----

$s->restart_seatcast('TERM', max_streams => 1);
my $one = $s->client('one')->watch(1, 101, Origin => $ours)->expect_event('init');
my $two = $s->client('two')->watch(1, 101, Origin => $ours)->expect_event('busy')->expect_closed;
is_deeply(cors($two), $open, 'the polite refusal can be read');
is_deeply(cors(ask(GET => $s->stream_path(1, 101), $ours)), $open, '… and the plain one');

# ---- without the option ----

$one->close;
$s->restart_seatcast('TERM', allow_origin => undef, max_streams => undef);
is_deeply(cors(ask(GET => $seats, $ours)), {}, 'without --allow-origin there is no word of it');
is(ask(OPTIONS => $hold, $ours)->{status}, 405, '… and no preflight');
$s->done;
