#!/usr/bin/env perl
# Whoever connects to the FastCGI socket and sends nothing, half of something or garbage costs a slot until its deadline (5 s)
# and nothing else: good requests are not delayed, no worker dies, no descriptor stays.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 5, lighttpd => 0);
sub get { my (%o) = @_; return $s->fcgi->request(path => '/healthz', %o)->answer }
sub good_requests {
	my ($says) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($worst, $bad) = (0, 0);
	for my $path (('/healthz', '/readyz', $s->snapshot_path(1, 101)) x 5) {
		my $t = time;
		$bad++ if (get(path => $path)->{status} // 0) != 200;
		$worst = time - $t if time - $t > $worst;
	}
	is($bad, 0, "$says: 15 good requests are answered");
	$s->in_time($worst, 0.25 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '… within %.0f ms', 1000 * $worst);
	return;
}

# ---- what is good though unusual ----

my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
get(path => '/readyz') for 1 .. 40;		# each worker has its database connection now
my @workers = $s->pids('worker');
my %fds;
my $settled = sub { $fds{$_} = $s->fds($_) for @workers; $s->pass_time(0.2); !grep { $s->fds($_) != $fds{$_} } @workers };
$s->expect('descriptors counted', $settled, 5);

my $env = fcgi_env('GET', '/healthz');
my $params = fcgi_pairs($env);
my $whole = fcgi_request(env => $env);
my $end = fcgi_record(FCGI_PARAMS, '') . fcgi_record(FCGI_STDIN, '');
for my $id (7, 256, 65535) {
	my $f = $s->fcgi->request(path => '/healthz', id => $id);
	is($f->answer->{body}, 'ok', "request id $id");
	is(join(' ', grep { $_ != $id } map { $_->{id} } @{$f->{records}}), '', '… in all records');
}
my $seven = $s->fcgi->request(path => $s->stream_path(1, 101), id => 7, headers => { Accept => 'text/event-stream' });
ok($seven->read_until(sub { $seven->{stdout} =~ /^event: init\n.*\nid: .*\n\n/m }, 3), 'a stream of request 7');
is(get(chunk => 3)->{status}, 200, 'a request three bytes at a time');
is(get(split => 1)->{status}, 200, '… in records of one byte');
is(get(long => 1)->{status}, 200, '… with four-byte lengths');
is(get(flags => FCGI_KEEP_CONN)->{status}, 200, '… with KEEP_CONN');
is($s->fcgi->send(fcgi_begin() . fcgi_record(FCGI_PARAMS, $params, pad => 255) . $end)->answer(3)->{status}, 200, '… with padding');
is($s->fcgi->send($whole . $whole)->answer(3)->{status}, 200, 'two at once: the first');
my $shut = $s->fcgi->send($whole)->shut_write;
is($shut->answer(3)->{status}, 200, 'half-closed behind it');

# ---- answered ----

my $big = 'x' x 20_000;
is($s->fcgi->request(method => 'POST', path => '/api/matches/1/allocation/seats/101/hold', body => $big)->answer->{status}, 413, 'a body over 16 KiB');
is($s->fcgi->send(fcgi_begin() . fcgi_record(FCGI_PARAMS, fcgi_pairs([@$env, CONTENT_LENGTH => 1])) . fcgi_record(FCGI_PARAMS, '')
	. fcgi_record(FCGI_STDIN, $big) x 50)->answer->{status}, 413, '… that CONTENT_LENGTH calls 1');
is($s->fcgi->send(fcgi_begin() . fcgi_record(FCGI_PARAMS, fcgi_pairs([CONTENT_LENGTH => '99999999999999999999', @$env[2 .. $#$env]])) . $end)->answer->{status},
	413, '… that only CONTENT_LENGTH promises');
is(get(env => [@$env, "HTTP_X", "a\0b"])->{status}, 400, 'a NUL byte in a parameter');
is(get(env => [])->{status}, 400, 'no parameters');
is(get(env => [SCRIPT_NAME => '/healthz'])->{status}, 400, 'no method');
is($s->fcgi->send(fcgi_begin(role => $_) . fcgi_record(FCGI_PARAMS, $params) . $end)->answer->{protocol_status}, 3, "role $_: FCGI_UNKNOWN_ROLE")
	for FCGI_AUTHORIZER, FCGI_FILTER, 0, 4, 65535;

# ---- closed, at once or at the deadline ----

my $bomb = pack 'N', 0xffffffff;
my %hostile = (
	'one byte'			=> "\1",
	'half a header'			=> substr($whole, 0, 5),
	'BEGIN alone'			=> fcgi_begin(),
	'half the parameters'		=> substr($whole, 0, 100),
	'all but the last byte'		=> substr($whole, 0, -1),
	'HTTP'				=> "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	'TLS'				=> "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . 'x' x 500,
	'zeros'				=> "\0" x 10_000,
	'ones'				=> "\xff" x 200_000,
	'version 0'			=> fcgi_request(env => $env, version => 0),
	'version 2'			=> fcgi_request(env => $env, version => 2),
	'PARAMS without BEGIN'		=> fcgi_record(FCGI_PARAMS, $params) . $end,
	'request id 0'			=> fcgi_request(env => $env, id => 0),
	'PARAMS of another request'	=> fcgi_begin() . fcgi_record(FCGI_PARAMS, $params, id => 2) . $end,
	'all but BEGIN of another'	=> fcgi_begin() . join('', map { fcgi_record(@$_, id => 2) } [FCGI_PARAMS, $params], [FCGI_PARAMS, ''], [FCGI_STDIN, '']),
	'two requests interleaved'	=> fcgi_begin() . fcgi_begin(id => 2) . fcgi_record(FCGI_PARAMS, $params, id => 2) . $end,
	'ABORT_REQUEST first'		=> fcgi_record(FCGI_ABORT_REQUEST, ''),
	'ABORT_REQUEST after BEGIN'	=> fcgi_begin() . fcgi_record(FCGI_ABORT_REQUEST, ''),
	'ABORT_REQUEST after PARAMS'	=> fcgi_begin() . fcgi_record(FCGI_PARAMS, $params) . fcgi_record(FCGI_PARAMS, '') . fcgi_record(FCGI_ABORT_REQUEST, ''),
	'GET_VALUES'			=> fcgi_record(FCGI_GET_VALUES, fcgi_pairs([FCGI_MAX_CONNS => '']), id => 0),
	'GET_VALUES like a BEGIN'	=> fcgi_record(FCGI_GET_VALUES, "\0\1" . "\0" x 6, id => 0) . join('', map { fcgi_record(@$_, id => 0) }
		[FCGI_PARAMS, $params], [FCGI_PARAMS, ''], [FCGI_STDIN, '']),
	'GET_VALUES and a request'	=> fcgi_record(FCGI_GET_VALUES, $bomb x 2, id => 0) . $whole,
	# CVE-2025-23016: lengths whose sum overflows in libfcgi's ReadParams
	'GET_VALUES, overflowing'	=> fcgi_record(FCGI_GET_VALUES, $bomb x 2 . 'A' x 1000, id => 0),
	'GET_VALUES in a request'	=> fcgi_begin() . fcgi_record(FCGI_GET_VALUES, $bomb x 2 . 'A' x 1000, id => 0),
	'PARAMS, overflowing'		=> fcgi_begin() . fcgi_record(FCGI_PARAMS, $bomb x 2 . 'A' x 1000) . $end,
	'PARAMS, overflowing to 0'	=> fcgi_begin() . fcgi_record(FCGI_PARAMS, pack('NN', 0xffffffff, 0x80000001) . 'A' x 1000) . $end,
	'a long name promised'		=> fcgi_begin() . fcgi_record(FCGI_PARAMS, pack('NN', 0x80010000, 0x80010000) . 'A') . $end,
	'a value promised'		=> fcgi_begin() . fcgi_record(FCGI_PARAMS, "\1\x7fAb") . $end,
	'half a length'			=> fcgi_begin() . fcgi_record(FCGI_PARAMS, "\x80\0") . $end,
	'empty names'			=> fcgi_begin() . fcgi_record(FCGI_PARAMS, "\0\0" x 30_000) . $end,
	'BEGIN of 0 bytes'		=> fcgi_record(FCGI_BEGIN_REQUEST, '') . fcgi_record(FCGI_PARAMS, $params) . $end,
	'BEGIN of 60000 bytes'		=> fcgi_record(FCGI_BEGIN_REQUEST, 'x' x 60_000),
	'a record longer than it says'	=> fcgi_begin() . fcgi_record(FCGI_PARAMS, $params, length => 10) . $end,
	'an unknown type'		=> fcgi_record(200, 'x', id => 0) . $whole,
	'two megabytes of PARAMS'	=> fcgi_begin() . fcgi_record(FCGI_PARAMS, fcgi_pairs([A => 'x' x 60_000])) x 33,
	'one pair after another'	=> fcgi_begin() . fcgi_record(FCGI_PARAMS, "\1\1Ab" x 16_000) x 20,
	'empty STDIN, then more'	=> fcgi_begin() . fcgi_record(FCGI_PARAMS, $params) . fcgi_record(FCGI_STDIN, 'x'),
);
my $begin = time;
my @silent = map { $s->fcgi } 1 .. 50;
good_requests('with 50 silent connections');
my %sent = map { my $name = $_; map { my $f = $s->fcgi; $f->send($hostile{$name}, chunk => 60_000); ("$name ($_)" => $f) } 1 .. 4 } sort keys %hostile;
good_requests('with ' . keys(%sent) . ' hostile ones');	# four of each: more than there are workers

# Drippers: a byte now and then, so that they are never idle.  Meanwhile garbage, and good requests with random bytes changed.
my @drip = map { [$s->fcgi, fcgi_request(path => '/healthz', headers => { X => 'y' x 1000 })] } 1 .. 5;
my $seed = srand;
note("seed $seed");
my ($garbage, $flipped) = (0, 0);
while (time - $begin < 5.5) {
	for my $d (@drip) { $d->[0] && !$d->[0]->send(substr $d->[1], 0, 1, '') and $d->[0] = undef }
	for (1 .. 4) {
		$s->fcgi->send(pack 'C*', map { int rand 256 } 1 .. 1 + rand 300)->close;
		$garbage++;
		my $bytes = $whole;
		substr $bytes, rand length $bytes, 1, chr rand 256 for 1 .. 1 + rand 3;
		$s->fcgi->send($bytes)->shut_write->close;
		$flipped++;
	}
	$s->pass_time(0.04);
}
cmp_ok($garbage, '>', 50, "$garbage pieces of garbage, $flipped damaged requests");
good_requests('after drippers and garbage');

my @open = grep { !$sent{$_}->closes(2) } sort keys %sent;
is(join(', ', @open), '', 'all hostile connections were closed');
is(join(', ', grep { ($sent{$_}->answer(0)->{status} // 0) == 200 } sort keys %sent), '', '… none was answered with 200');
is(scalar(grep { !$_->closes(1) } @silent), 0, 'the silent ones too');
is(scalar(grep { $_->[0] && !$_->[0]->closes(2) } @drip), 0, '… and those that drip');
$s->in_time(time - $begin, 9 * ($ENV{SEATCAST_PATIENCE} // 1), '… by their deadline');

# ---- nothing happened ----

# A record on a live stream: an abort ends that one, and no other.
my $viewers = $s->counter('viewers');
my $aborted = $s->fcgi->request(path => $s->stream_path(1, 101), headers => { Accept => 'text/event-stream' });
$aborted->read_until(sub { $aborted->{stdout} =~ /^event: init\n.*\nid: .*\n\n/m }, 3);
$s->expect_counter(viewers => $viewers + 1);
$aborted->send(fcgi_record(FCGI_ABORT_REQUEST, ''));
ok($aborted->closes(2), 'ABORT_REQUEST ends a stream');
is($aborted->{records}[-1]{type}, FCGI_END_REQUEST, '… with END_REQUEST');
$s->expect_counter(viewers => $viewers);
my $noisy = $s->fcgi->request(path => $s->stream_path(1, 101), headers => { Accept => 'text/event-stream' });
$noisy->read_until(sub { $noisy->{stdout} =~ /^event: init\n.*\nid: .*\n\n/m }, 3);
$noisy->send("\xff" x 10_000);
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$fan->expect_seat(101 => 'HOLD', within => 1);
ok($seven->read_until(sub { $seven->{stdout} =~ /"seatId":101,"status":"HOLD"/ }, 2), 'the streams go on');
is(join(' ', grep { $_ != 7 } map { $_->{id} } @{$seven->{records}}), '', '… request 7 under its number');
$_->close for $aborted, $noisy, $seven;
undef %sent; undef @silent; undef @drip;
is(join(' ', $s->pids('worker')), "@workers", 'the workers are the same');
$s->expect_counter($_ => 0) for qw(worker_restarts loop_crashes);
ok($s->wait_for(sub { !grep { $s->fds($_) > $fds{$_} } @workers }, 7), 'descriptors are back to what they were')
    or diag(join ' ', map { "$_: $fds{$_} then " . $s->fds($_) } @workers);
$s->expect_counter(requests_bad => '>=', 80);
$s->done;
