#!/usr/bin/env perl
# With the TLS section of lighttpd.conf.sample: streams by HTTP/1.1 and by HTTP/2 (which ALPN chooses) are as quick as in clear,
# clients that leave are noticed at once, who comes in clear is sent to https, and a reload reads a renewed certificate.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

plan skip_all => 'curl with HTTP2 is not installed' if `curl -V 2>/dev/null` !~ /^Features:.* HTTP2\b/m;
plan skip_all => 'openssl is not installed' if `openssl version 2>/dev/null` !~ /^OpenSSL/;
plan skip_all => 'lighttpd-mod-openssl is not installed' if !grep { -e "$_/lighttpd/mod_openssl.so" } qw(/usr/lib /usr/lib64 /usr/local/lib);

my $patience = $ENV{SEATCAST_PATIENCE} // 1;
my $poll = 0.2;
my $slack = 0.3 * $patience;
my $s = Scenario->new(seats => 20, heartbeat => '60m', reconcile_interval => '60m');
my $stage = $s->{stage};
my $dir = $s->dir;

# A certificate for 127.0.0.1, with its key in the same file.
sub certificate {
	my $status = system "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=seatcast -addext subjectAltName=IP:127.0.0.1"
	    . " -keyout '$dir/key.pem' -out '$dir/cert.pem' 2>'$dir/log/openssl.log' && cat '$dir/cert.pem' '$dir/key.pem' >'$dir/tls.pem'";
	die "openssl req: $status\n" if $status;
	return;
}
certificate();
my $port;
$s->stop_lighttpd;
$s->start_lighttpd(edit => sub {
	$port = $stage->free_port;
	s/^(# --- TLS.*?)(?=^# --- Logs)/$1 =~ s{^#([^ ])}{$1}mgr/mse or die 'no TLS section';	# what the sed there does
	s/^(var\.tls_port\s*=).*/$1 $port/m && s/^(var\.tls_pem\s*=).*/$1 "$dir\/tls.pem"/m or die 'no variables';
});

my @curl = ('curl', '-sN', '--cacert', "$dir/cert.pem");
my $base = "https://127.0.0.1:$port";
my $n = 0;
# curl in the background: {name}, and what it wrote so far.
sub start { my ($url, @o) = @_; my $name = 'curl' . ++$n; $stage->spawn($name, [@curl, '-D', "$dir/$name.head", '-o', "$dir/$name.body", @o, $url]); return $name }
sub head { my ($name) = @_; return Stage::slurp("$dir/$name.head") }
sub body { my ($name) = @_; return Stage::slurp("$dir/$name.body") }
# A whole exchange: status, head, body.
sub ask {
	my ($url, @o) = @_;
	my $name = start($url, @o);
	$stage->wait_end($name);
	$stage->stop($name);
	return { status => head($name) =~ m{^HTTP/\S+ (\d+)} ? $1 : 0, head => head($name), body => body($name) };
}

my $seat = 100;
for my $way (['HTTP/1.1', '--http1.1'], ['HTTP/2', '--http2']) {
	my ($version, $option) = @$way;
	my $t = time;
	my $c = start($base . $s->stream_path(1, 101), $option);
	$s->expect("$version: init", sub { body($c) =~ /^event: init\ndata: .*\nid: .*\n\n/m });
	my $took = time - $t;
	$s->in_time($took, 1.0 * $patience, sprintf '… after %.0f ms, with the start of curl', 1000 * $took);
	like(head($c), qr{^\Q$version\E 200 .*^content-type: text/event-stream}msi, '… in that version');
	my @delay;
	for (1 .. 5) {
		$seat++;
		$s->sql("SELECT seatcast.hold(1, $seat, 7, '5m')");
		$t = time;
		$s->expect("update $_", sub { body($c) =~ /"seatId":$seat,"status":"HOLD"/ });
		push @delay, time - $t;
	}
	@delay = sort { $a <=> $b } @delay;
	$s->in_time($delay[-1], $poll + $slack, sprintf 'five updates, the slowest after %.0f ms (poll: 200 ms)', 1000 * $delay[-1]);

	# Who leaves is noticed though nothing is sent: politely (close_notify), and killed.
	my $polite = start($base . $s->stream_path(1, 101), $option, '--max-time', 2);
	$s->expect_counter(viewers => 2);
	$stage->wait_end($polite);
	$t = time;
	$s->expect_counter(viewers => 1, within => 2);
	$s->in_time(time - $t, 0.5 * $patience, 'a client that closes is noticed at once');
	$t = time;
	$stage->stop($c, 'KILL');
	$s->expect_counter(viewers => 0, within => 2);
	$s->in_time(time - $t, 0.5 * $patience, '… and one that is killed');
	$stage->stop($polite);

	# Ordinary requests
	my $r = ask($base . $s->snapshot_path(1, 101), $option);
	is($r->{status}, 200, 'snapshot');
	my ($etag) = $r->{head} =~ /^etag: (\S+)/mi;
	is(ask($base . $s->snapshot_path(1, 101), $option, '-H', "If-None-Match: $etag")->{status}, 304, '… again: 304');
	$seat++;
	is(ask("$base/api/matches/1/allocation/seats/$seat/hold", $option, '-H', 'Content-Type: application/json', '-d', '{"userId":7}')->{status}, 200, 'POST hold');
	is(ask("$base/api/nothing", $option)->{status}, 404, 'no such path: 404');
	like(ask("$base/", $option)->{body}, qr/<html/i, 'the page');
}

# Twenty browsers, two streams each on one connection: curl keeps to one with HTTP/2.
my @many = map { start($base . $s->stream_path(1, 101), '--http2', '--parallel', $base . $s->stream_path(1, 102), '-o', "$dir/second.curl" . ($n + 1)) } 1 .. 20;
$s->expect_counter(viewers => 40);
$s->sql("SELECT seatcast.hold(1, 120, 7, '5m'); SELECT seatcast.hold(1, 1000001, 7, '5m')");
$s->expect('forty streams of twenty clients are all told', sub {
	!grep { body($_) !~ /"seatId":1000001,"status":"HOLD"/ || Stage::slurp("$dir/second." . $_) !~ /"seatId":120,"status":"HOLD"/ } @many });
$stage->stop($_, 'KILL') for @many;
$s->expect_counter(viewers => 0, within => 3);

# In clear: to https, but for what machines ask
my $r = $s->http(POST => '/api/matches/1/allocation/seats/101/release', {}, { userId => 7 });
is("$r->{status} $r->{headers}{location}", '308 https://127.0.0.1/api/matches/1/allocation/seats/101/release', 'http: sent to https, with its method');
is($s->http(GET => '/healthz')->{status}, 200, '… /healthz is answered');
is($s->http(GET => '/metrics')->{status}, 200, '… and /metrics');

# A renewed certificate
my $open = start($base . $s->stream_path(1, 102), '--http2');
$s->expect('a stream', sub { body($open) =~ /^event: init\n/m });
certificate();
is(ask("$base/healthz")->{status}, 0, 'a new certificate is not served yet');
kill 'USR1', $s->pid('lighttpd');
$s->expect('a reload: it is', sub { ask("$base/healthz")->{status} == 200 });
ok($stage->wait_end($open, 12 * $patience), 'what was open ends, later');
is(ask("$base/healthz", '--tls-max', '1.1')->{status}, 0, 'TLS 1.1 is refused');
$s->done;
