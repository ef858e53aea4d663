#!/usr/bin/env perl
# A legal request in any number of pieces is served, and only it is taken from the connection.  Halves of requests cost their
# bytes once; a body that is late is 408.  A web server that does not read its answers costs nobody's time.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI; use Time::HiRes qw(time);
use IO::Socket::INET;

my $s = Scenario->new(seats => 4000, lighttpd => 0);
my $seats = '/api/matches/1/allocation/seats';
sub cpu {	# seconds of all workers so far
	my $sum = 0;
	for my $pid ($s->pids('worker')) { my @f = split ' ', (Stage::slurp("/proc/$pid/stat") =~ /\) (.*)/)[0]; $sum += $f[11] + $f[12] }
	return $sum / 100;
}
sub row { my ($seat) = @_; my ($r) = $s->sql("SELECT concat_ws(' ', status, user_id) FROM allocations WHERE seat_id = $seat"); return $r && $r->[0] }

# ---- pieces ----

my $long = fcgi_request(path => '/healthz', headers => { Cookie => 'x' x 3000 });
my $f = $s->fcgi;
my $pieces = 0;
for my $byte (split //, $long) {	# a unix socket holds some 270 pieces: let each arrive
	$f->send($byte);
	$s->pass_time(0.001) if ++$pieces % 100 == 0;
}
is($f->answer(5)->{status}, 200, "a request in $pieces pieces");
$f = $s->fcgi;
$f->send($_) for unpack '(a300)*', fcgi_request(method => 'POST', path => "$seats/101/hold", body => '{"userId":7}' . ' ' x 16000, split => 1000);
is($f->answer->{status}, 200, 'a body in many');
is(row(101), 'HOLD 7', '… is read to its end');

# What comes behind the request is not the worker's business.
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
$s->expect_counter(viewers => 1);
$f = $s->fcgi->send(fcgi_request(path => $s->stream_path(1, 101), headers => { Accept => 'text/event-stream' }) . fcgi_record(FCGI_ABORT_REQUEST, ''));
$s->expect_counter(adopted => '>=', 2);
$s->expect_counter(viewers => 1);	# ABORT_REQUEST in the same piece has reached the loop

# ---- the length of a body ----

for my $length ('', '-1', undef) {
	my $a = $s->fcgi->request(body => '{"userId":7}', env => [REQUEST_METHOD => 'POST', SCRIPT_NAME => "$seats/102/hold",
		defined $length ? (CONTENT_LENGTH => $length) : ()])->answer;
	is($a->{status}, 200, 'CONTENT_LENGTH ' . ($length // 'not set') . ': the body is what comes') or diag($a->{body});
}
for my $length ('500', '1') {
	is($s->fcgi->request(body => '{"userId":7}', env => [REQUEST_METHOD => 'POST', SCRIPT_NAME => "$seats/102/hold",
		CONTENT_LENGTH => $length])->answer->{status}, 400, "… $length is not");
}

# ---- late ----

my $begun = time;
my $half = fcgi_begin(id => 7) . fcgi_record(FCGI_PARAMS, fcgi_pairs(fcgi_env('POST', "$seats/103/hold", [], '{"userId":7}')), id => 7) . fcgi_record(FCGI_PARAMS, '', id => 7);
my $late = $s->fcgi->send($half);
my $nameless = $s->fcgi->send("\1");

# ---- many halves, none of them looked at twice ----

my $big = substr(fcgi_request(path => '/healthz', headers => { map { ("X-$_" => 'y' x 30000) } 1 .. 4 }), 0, -1);
my $before = cpu();
my @halves = map { my $h = $s->fcgi; $h->send($big); $h } 1 .. 100;
my $drips = 0;
while (time - $begun < 3) { $s->pass_time(0.05); $drips++ }
my $spent = cpu() - $before;
cmp_ok($spent, '<', 1 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '100 halves of %d KiB for 3 s cost %.2f s', length($big) / 1024, $spent);
is($s->fcgi->request(path => '/healthz')->answer->{status}, 200, '… and others are served');

my $a = $late->answer(10);
is($a->{status}, 408, 'a body that does not come is 408');
like($a->{body}, qr/\A\{"status":408,"message":"[^"]+"\}\z/, '… the envelope');
is(join(' ', grep { $_ != 7 } map { $_->{id} } @{$late->{records}}), '', '… of that request');
cmp_ok(time - $begun, '>', 4, '… after 5 s');
ok($nameless->closes(3), 'whose name is not known is closed');
is($nameless->{stdout}, '', '… without a word');
is(scalar(grep { ($_->answer(10)->{status} // 0) != 408 } @halves), 0, 'the halves too are told');

# ---- who does not read ----

my @deaf;
for (1 .. 60) {
	my $d = $s->fcgi;
	setsockopt $d->{fh}, Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), 4096;
	$d->request(path => '/api/site/blocks/101/seats');		# 180 KB
	push @deaf, $d;
}
my $worst = 0;
for (1 .. 40) {
	my $t = time;
	$s->fcgi->request(path => '/healthz')->answer->{status} == 200 or fail('healthz');
	$worst = time - $t if time - $t > $worst;
}
cmp_ok($worst, '<', 0.25 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf 'with 60 that read nothing, /healthz within %.0f ms', 1000 * $worst);
my $one = shift @deaf;
is($one->answer->{protocol_status}, 0, 'one of them reads on');
cmp_ok(length $one->{stdout}, '>', 100_000, '… and gets all of it');
undef @deaf;
$s->expect_counter(worker_restarts => 0);

# ---- who may come over TCP ----

my $port = $s->{stage}->free_port;
$s->stop_seatcast;
$s->{seatcast}{env} = { FCGI_WEB_SERVER_ADDRS => '192.0.2.1, ::2' };
delete $s->{seatcast}{listen};
$s->start_seatcast(listen => "127.0.0.1:$port", wait => 0);
my $tcp;
$s->wait_for(sub { $tcp = FastCGI->connect("127.0.0.1:$port", try => 1) }, 10);
ok($tcp->send(fcgi_request(path => '/healthz'))->closes(3), 'an address that is not in FCGI_WEB_SERVER_ADDRS is closed');
is($tcp->{stdout}, '', '… without a word');
$s->expect_log(qr/accept: refused: the address is not in FCGI_WEB_SERVER_ADDRS/);
$s->stop_seatcast;
$s->{seatcast}{env} = { FCGI_WEB_SERVER_ADDRS => '192.0.2.1,127.0.0.1' };
$s->start_seatcast(listen => "127.0.0.1:$port");
is(FastCGI->connect("127.0.0.1:$port")->send(fcgi_request(path => '/healthz'))->answer->{status}, 200, '… one that is is served');
$s->done;
