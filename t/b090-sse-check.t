#!/usr/bin/env perl
# bench/sse-check finds nothing to blame in our stream behind lighttpd, blames each of many planted faults and only then, and has
# something to say about a server as people write it in Node.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;
use Deploy qw(have);
use IO::Socket::INET;
use IO::Socket::UNIX;
use TAP::Parser;
use Time::HiRes qw(time sleep);

my $s = Scenario->new(seats => 40, heartbeat => '1s', allow_origin => 'https://shop.example');
my $stage = $s->{stage};
my ($turn, $patient) = (0, 5 * ($ENV{SEATCAST_PATIENCE} // 1));

# Start one; its name.  What it says is in its log, and its status in the stage.
sub start {
	my (@args) = @_;
	my $name = 'check' . ++$turn;
	$stage->spawn($name, [$^X, "$stage->{src}/bench/sse-check", '--timeout', $patient, @args]);
	return $name;
}

# (status, output) of one that was started.
sub result {
	my ($name) = @_;
	my $status = $stage->wait_end($name, 12 * $patient);
	my $text = $s->log_text($name);
	$stage->stop($name);
	return (defined $status ? $status >> 8 : 'still running', $text);
}

# ---- ours ----

my $url = $s->url . $s->stream_path(1, 101);
my $hold = $s->url . '/api/matches/1/allocation/seats/$((100 + SSE_CHECK_TURN))/hold';
my $ours = start('--silence', 3, '--listen', 4, '--stall', 1, '--cuts', 40, '--origin', 'https://shop.example', '--provoke',
	qq(curl -s -H 'Content-Type: application/json' -d '{"userId":7}' "$hold"), $url);
my $ours_tap = start('--tap', '--only', 'headers,framing,head,caches', $url);

# ---- a good server, and what breaks it ----

# An event each 150 ms, from 1 on, told to all; who comes back gets what he has missed.  Faults: head, text and reply change
# what is sent, from where a client that has an id goes on, count is the number of the connection.
sub serve {
	my ($fh, $began, $count, %f) = @_;
	my $ask = '';
	while ($ask !~ /\r\n\r\n/) {
		sysread($fh, $ask, 4096, length $ask) or return;
		last if $f{hasty};
	}
	my $head = join "\r\n", 'HTTP/1.1 200 OK', 'Content-Type: text/event-stream', 'Cache-Control: no-store, no-transform',
		'X-Accel-Buffering: no', 'Connection: close', '', '';
	my ($id) = $ask =~ /^Last-Event-ID: *(\d+)\r$/mi;
	my $reply = $f{reply} && $f{reply}->($ask, $id, $count);
	if ($f{hasty} && $ask !~ /\r\n\r\n/) { $reply = 'HTTP/1.1 400 Bad Request' }
	if ($reply) { syswrite $fh, "$reply\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; return }
	$f{head}->($ask) for $head;
	syswrite $fh, $head;
	return if $ask =~ /^HEAD/ && !$f{head_body};
	my $now = sub { 1 + int((time - $began) / 0.15) };
	my $next = defined $id ? $id + 1 + ($f{skip} // 0) : $now->();
	syswrite $fh, 'retry: ' . ($f{retry} // 1000 + int rand 1000) . "\n\n" if !$f{mute};
	for (my $sent = 0; ; ) {
		if ($next > $now->() || $f{mute} || $f{once} && $sent || defined $id && $f{frozen} && $sent) {
			return if $f{leave} && $sent;
			my $r = '';
			vec($r, fileno $fh, 1) = 1;
			return if select $r, undef, undef, 0.05;		# gone
			next;
		}
		local $_ = "data: {\"n\":$next}\nid: $next\n\n";
		$f{text}->($next) if $f{text};
		if ($f{halves}) { syswrite $fh, substr $_, 0, 9, ''; sleep 1.3 }
		$sent += syswrite($fh, $_) // return;
		$next++;
	}
}

# Where one of them listens.  It is a child of the stage's, in this very program.
sub server {
	my ($unix, %f) = @_;
	$f{head} //= sub {};
	my $listen = $unix ? IO::Socket::UNIX->new(Local => $unix, Listen => 64) : IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64);
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		%SIG = (%SIG, map { $_ => 'DEFAULT' } qw(INT TERM HUP));
		$SIG{CHLD} = 'IGNORE';
		$SIG{PIPE} = 'IGNORE';
		my ($began, $count, $parent) = (time, 0, getppid);
		while (1) {
			my $r = '';
			vec($r, fileno $listen, 1) = 1;
			POSIX::_exit(0) if getppid != $parent;
			next if select($r, undef, undef, 0.5) <= 0;
			my $fh = $listen->accept or next;
			$count++;
			my $child = fork // next;
			if (!$child) { serve($fh, $began, $count, %f); close $fh; POSIX::_exit(0) }
		}
	}
	$stage->{proc}{'server' . ++$turn} = { pid => $pid, log => '/dev/null' };
	return $unix // 'http://127.0.0.1:' . $listen->sockport . '/events';
}

my $add = sub { my ($line) = @_; return sub { s/\r\n\r\n\z/\r\n$line\r\n\r\n/ } };
my @faults = (
	# parts, what is wrong, what is said, how; then further arguments
	['headers', 'the wrong type', qr/not text\/event-stream/, { head => sub { s{text/event-stream}{text/plain} } }],
	['headers', 'another charset', qr/charset latin1/, { head => sub { s{event-stream}{event-stream; charset=latin1} } }],
	['headers', 'a cache may keep it', qr/a cache may give it/, { head => sub { s/no-store.*/public, max-age=60\r/ } }],
	['headers', 'compressed unasked', qr/which nobody asked for/, { head => $add->('Content-Encoding: gzip') }],
	['headers', 'it has a length', qr/the stream ends there/, { head => $add->('Content-Length: 100000') }],
	['headers', 'status 500', qr/status 500: a browser gives up/, { reply => sub { 'HTTP/1.1 500 No' } }],
	['framing', 'a CR inside data', qr/a CR inside data/, { text => sub { s/"n":/"n":\r/ } }],
	['framing', 'bytes that are not UTF-8', qr/not UTF-8: "\\xff/, { text => sub { s/"n"/"\xff"/ } }],
	['framing', 'data of two lines with one data:', qr/no field is lost: "\}"/, { text => sub { s/\}/\n}/ } }],
	['framing', 'no empty line', qr/without its empty line/, { text => sub { s/\n\n/\n/ }, once => 1 }, '--listen', 2],
	['framing', 'chunks that are none', qr/no chunk size/, { head => $add->('Transfer-Encoding: chunked') }],
	['arrival', 'buffered by size', qr/events arrive in parts/, { halves => 1 }, '--listen', 3],
	['arrival', 'buffered until the end', qr/nothing within/, { mute => 1 }, '--timeout', 2],
	['ids', 'an id that comes twice', qr/comes twice/, { text => sub { s/id: .*/id: 7/ } }],
	['ids', 'ids that fall', qr/they fall: 9\d\d after/, { text => sub { my ($n) = @_; s/id: .*/'id: ' . (999 - $n)/e } }],
	['ids', 'NUL in an id', qr/NUL in an id/, { text => sub { s/id: /id: \0/ } }],
	['retry', 'a time that is none', qr/retry: "2s" is ignored/, { retry => '2s' }],
	['retry', 'at once', qr/all come back at once/, { retry => 0 }],
	['silence', 'silence', qr/nothing came for/, { once => 1 }, '--silence', 1],
	['silence', 'it ends', qr/the stream ended/, { leave => 1 }, '--silence', 1],
	['resume', 'a gap', qr/1 of \d+ that it had missed do not come/, { skip => 1 }],
	['resume', 'a repetition', qr/what it had comes again/, { skip => -1 }],
	['resume', 'who comes back is refused', qr/is answered 503/, { reply => sub { my (undef, $id) = @_; defined $id && 'HTTP/1.1 503 No' } }],
	['resume', 'an id that it never gave is refused', qr/unknown is answered 404/, { reply => sub { $_[0] =~ /-never-/ && 'HTTP/1.1 404 No' } }],
	['bytes', 'a request is to be one piece', qr/byte by byte: 400/, { hasty => 1 }],
	['head', 'HEAD with a body', qr/with a body/, { head_body => 1 }],
	['head', 'HEAD without an answer', qr/HEAD is answered 500/, { reply => sub { $_[0] =~ /^HEAD/ && 'HTTP/1.1 500 No' } }],
	['caches', '304', qr/answered 304/, { reply => sub { $_[0] =~ /^If-None-Match/m && 'HTTP/1.1 304 Not Modified' } }],
	['caches', 'out of a cache', qr/out of a cache/, { head => $add->('Age: 7') }],
	['cuts', 'every fifth is refused', qr/(?:after|before) \d+ bytes: answered 503/, { reply => sub { $_[2] % 5 == 4 && 'HTTP/1.1 503 No' } }, '--cuts', 20],
	['cors', 'no word of it', qr/is missing: no page of/, {}, '--origin', 'https://shop.example'],
	['cors', 'everybody, with credentials', qr/whoever asks is allowed by name/, { head => sub { my ($o) = $_[0] =~ /^Origin: (.*)\r$/m;
		$add->("Vary: Origin\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Allow-Origin: $o")->() } }, '--origin', 'https://shop.example'],
);
my $good = server(undef, text => undef);
my $good_unix = server("$stage->{dir}/good.sock");
my @good = (start('--listen', 2, '--stall', 1, '--silence', 2, '--cuts', 20, $good), start('--unix', $good_unix, '--only', 'framing,resume,cuts', '--cuts', 10, 'http://unix/events'));
for my $f (@faults) {
	my ($part, undef, undef, $how, @args) = @$f;
	push @$f, start('--only', $part, '--listen', 1, '--cuts', 0, @args, server(undef, %$how));
}

# ---- a peer ----

my $node;
if (have('node')) {
	my $port = $stage->free_port;
	$stage->spawn('node', [have('node'), "$stage->{src}/bench/node-server.js", $port, 1, 1]);
	ok($stage->wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }), 'the server in Node listens');
	$node = start('--only', 'headers,framing,resume,head', '--timeout', 2, "http://127.0.0.1:$port/blocks/0");
}

# ---- what they say ----

my ($status, $text) = result($ours);
is($status, 0, 'ours behind lighttpd: no failure') or diag($text);
unlike($text, qr/^(?:warn|fail|skip)/m, '... nor a warning, and all of it could be judged') or diag($text);
like($text, qr/^ok    [ \w]{8} $_/m, "... $_") for 'all \d+ that it had missed', 'goes on with what comes next', '\d+ cuts of the first \d+ bytes, [1-9]\d* with an id',
	'who reads nothing for 1 s has the newest then', 'a request that comes byte by byte', 'Access-Control-Allow-Origin: https://shop.example';
($status, $text) = result($ours_tap);
my $parser = TAP::Parser->new({ tap => $text });
$parser->run;
ok($status == 0 && $parser->is_good_plan && !$parser->parse_errors && !$parser->failed && $parser->tests_run > 20, '--tap: all pass') or diag($text);

for (@good) {
	($status, $text) = result($_);
	is($status, 0, 'a good server: no failure') or diag($text);
	unlike($text, qr/^fail|uninitialized/m, '... is said');
}
for my $f (@faults) {
	my ($part, $what, $says) = @$f;
	($status, $text) = result($f->[-1]);
	is($status, 1, "$part: $what: a failure");
	like($text, qr/^fail [^\n]*$says/m, '... the right one') or diag($text);
	unlike($text, qr/ at \S+ line \d+/, '... and no word of Perl\'s');
}

SKIP: {
	skip 'Node is not installed', 3 if !$node;
	($status, $text) = result($node);
	is($status, 1, 'the server in Node: failures');
	like($text, qr/^fail [^\n]*what it had comes again/m, '... who comes back gets all again under the id that he has') or diag($text);
	like($text, qr/^fail [^\n]*HEAD is not answered/m, '... and HEAD is not answered') or diag($text);
}

# ---- usage ----

for (['--help'], ['--frobnicate', $url], ['--cuts', 100000, $url], ['--only', 'all', $url], ['--header', "X\n: y", $url], ['ftp://127.0.0.1/'],
    [], ['--unix', "$stage->{dir}/nobody.sock", 'http://x/'], ['http://127.0.0.1:1/']) {
	($status, $text) = result(start(@$_));
	is($status, "@$_" eq '--help' ? 0 : 2, "sse-check @$_: status" =~ tr/\n/ /r) or diag($text);
	like($text, qr/^(?:usage|sse-check): /, '... with a word');
}
$s->done;
