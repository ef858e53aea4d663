#!/usr/bin/env perl
# SPEC 1, the table of errors: every one is the envelope with the same status, as JSON; 405 says Allow.  Ids are decimal,
# 1 to 9223372036854775807, and nothing else.  Paths come from SCRIPT_NAME + PATH_INFO, else from REQUEST_URI.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 5);

sub check_error {
	my ($a, $status, $says) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $json = eval { JSON::PP::decode_json($a->{body}) } // {};
	my @wrong = grep { $_ } ($a->{status} // 0) != $status && 'status ' . ($a->{status} // 'none'),
	    ($a->{headers}{'content-type'} // '') ne 'application/json' && 'content-type ' . ($a->{headers}{'content-type'} // 'none'),
	    ($a->{body} // '') !~ /\A\{"status":$status,"message":"[^"]+"\}\z/ && 'body ' . ($a->{body} // 'none'),
	    ($json->{status} // 0) != $status && 'no such JSON',
	    ($a->{headers}{'content-length'} // length $a->{body} // 0) != length($a->{body} // '') && 'content-length';
	is(join(', ', @wrong), '', "$status: $says");
	return $a;
}

sub bare { my (%o) = @_; return $s->fcgi->request(%o)->answer }
sub env { return bare(env => [REQUEST_METHOD => 'GET', QUERY_STRING => '', @_]) }

# ---- ids ----

my @bad_ids = (0, '-1', '+1', '01', ' 1', '1 ', '9223372036854775808', '18446744073709551617', '1e3', '1.0', '0x1', 'abc', '1_0',
	"\x{d9}\x{a1}", '1;DROP', '99999999999999999999999999999999999999999');
for my $id (@bad_ids) {
	for my $path ("/api/matches/$id/blocks/101/seats/status-stream", "/api/matches/1/blocks/$id/seats", "/api/site/areas/$id/sections") {
		check_error(env(SCRIPT_NAME => $path), 400, $path);
	}
	check_error(bare(method => 'POST', path => "/api/matches/1/allocation/seats/$id/hold", body => '{"userId":7}'), 400, "hold '$id'");
}
for my $uri ('/api/matches/%00/blocks/101/seats', '/api/matches/1%00/blocks/101/seats', '/api/matches/1/blocks/101%001/seats/status-stream',
    '/api/matches/1/blocks/%2b1/seats', '/api/matches/1/blocks/%201/seats', '/api/matches/1/blocks/%0a1/seats', '/api/matches/1/blocks/%zz/seats') {
	check_error(env(REQUEST_URI => $uri), 400, "REQUEST_URI $uri");
}
for my $path ('/api/matches//blocks/101/seats', '/api/matches/1/blocks//seats/status-stream') {	# an empty id
	my $a = env(SCRIPT_NAME => $path);
	check_error($a, ($a->{status} // 0) == 404 ? 404 : 400, $path);
}
is(env(REQUEST_URI => '/api/matches/1/blocks/101/seats?x=/y')->{status}, 200, 'REQUEST_URI without its query');
is(env(REQUEST_URI => '/api/matches/%31/blocks/101/seats', SCRIPT_NAME => '', PATH_INFO => '')->{status}, 200, '… percent-decoded');
is(env(SCRIPT_NAME => '/api/matches/1', PATH_INFO => '/blocks/101/seats', REQUEST_URI => '/elsewhere')->{status}, 200,
	'SCRIPT_NAME + PATH_INFO before it');

# ---- unknown ----

check_error(bare(path => $_), 404, $_) for '/', '/api', '/nothing', '/api/matches/1', '/api/matches/1/blocks/101/seats/x',
	$s->stream_path(1, 101) . 'x', $s->stream_path(1, 101) . '/', '/healthz/x', '/API/site/areas', '/api/site/area',
	$s->stream_path(2, 101), $s->stream_path(1, 100), $s->snapshot_path(2, 101), $s->snapshot_path(1, 103),
	$s->stream_path('9223372036854775807', 101), $s->snapshot_path(1, '9223372036854775807'),
	'/api/site/areas/9/sections', '/api/site/sections/9/blocks', '/api/site/blocks/9/seats';
check_error(bare(method => 'POST', path => "/api/matches/$_/hold", body => '{"userId":7}'), 404, "hold $_")
	for '9/allocation/seats/101', '1/allocation/seats/999';

# ---- methods ----

my %allow = ((map { $_ => 'GET HEAD' } $s->stream_path(1, 101), $s->snapshot_path(1, 101), '/api/site/areas', '/api/site/areas/1/sections',
	'/api/site/sections/1/blocks', '/api/site/blocks/101/seats', '/healthz', '/readyz', '/metrics', '/status'),
	map { $_ => 'POST' } map { "/api/matches/1/allocation/seats/$_" } '101/hold', '101/release', 'confirm');
for my $path (sort keys %allow) {
	for my $method ($allow{$path} eq 'POST' ? qw(GET HEAD PUT) : qw(POST DELETE OPTIONS get)) {
		my $a = bare(method => $method, path => $path);
		if ($method eq 'HEAD') { is($a->{status}, 405, "405: HEAD $path"); is($a->{body}, '', '… without a body') }
		else { check_error($a, 405, "$method $path") }
		is(join(' ', sort split /,\s*/, $a->{headers}{allow} // 'none'), $allow{$path}, '… Allow');
	}
}

# ---- size ----

my $post = '/api/matches/1/allocation/seats/101/hold';
my $json = '{"userId":7}';
check_error(bare(method => 'POST', path => $post, body => $json . ' ' x (16385 - length $json)), 413, 'a body of 16385 bytes');
check_error(bare(method => 'POST', path => $post, body => 'x' x 100_000), 413, '… of 100000');
is(bare(method => 'POST', path => $post, body => $json . ' ' x (16384 - length $json))->{status}, 200, '16384 bytes are not too many');

# ---- the same through the web server ----

check_error($s->http(GET => '/api/matches/01/blocks/101/seats'), 400, 'lighttpd: 01');
check_error($s->http(GET => '/api/matches/%201/blocks/101/seats'), 400, "lighttpd: ' 1'");
check_error($s->http(GET => $s->snapshot_path(1, 9)), 404, 'lighttpd: unknown block');
check_error($s->client('fan')->watch(1, 9)->expect_closed, 404, 'lighttpd: unknown block, as a stream');
is(check_error($s->http(POST => $s->snapshot_path(1, 101), {}, '{}'), 405, 'lighttpd: POST')->{headers}{allow}, 'GET, HEAD', '… Allow');
check_error($s->http(POST => $post, {}, 'x' x 20_000), 413, 'lighttpd: a body of 20000 bytes');

is_deeply([$s->pids('loop')], [($s->pids('loop 1/101'))[0] // ()], 'no loop was made for what does not exist');
$s->expect_counter(worker_restarts => 0);
$s->done;
