#!/usr/bin/env perl
# HTTP/2 in clear through lighttpd: several streams on one connection, at once and in time; one that is not read, or is reset,
# harms no other; requests beside them are answered; a connection that ends takes all its viewers along.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

# ---- a small client: frames of RFC 9113, requests as literals without indexing (RFC 7541), of an answer only the status ----

package H2;
use Socket;
my %TYPE = (DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6, GOAWAY => 7, WINDOW_UPDATE => 8);
my %STATUS = map { ($_->[0] => $_->[1]) } [0x88, 200], [0x89, 204], [0x8a, 206], [0x8b, 304], [0x8c, 400], [0x8d, 404], [0x8e, 500];

# A connection; the Scenario serves it like any client.
sub connect {
	my ($class, $s) = @_;
	socket my $fh, PF_INET, SOCK_STREAM, 0 or die "socket: $!";
	CORE::connect $fh, pack_sockaddr_in($s->{stage}{port}, INADDR_LOOPBACK) or die "connect: $!";
	$fh->blocking(0);
	my $self = bless { s => $s, fh => $fh, in => '', out => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", next_id => 1, stream => {}, settings => {} }, $class;
	$self->frame(SETTINGS => 0, 0, pack 'nNnN', 2, 0, 4, 65535);	# no push; the window of a stream
	push @{$s->{clients}}, $self;
	return $self;
}

sub frame {
	my ($self, $type, $flags, $id, $payload) = @_;
	$self->{out} .= substr(pack('N', length $payload), 1) . pack('CCN', $TYPE{$type}, $flags, $id) . $payload if $self->{fh};
	return;
}

sub hpack {
	my $out = '';
	for my $text (@_) {
		my $n = length $text;
		$out .= $n < 127 ? pack('C', $n) : pack('C', 127) . ($n - 127 < 128 ? pack('C', $n - 127) : pack('CC', 128 | ($n - 127) & 127, ($n - 127) >> 7));
		$out .= $text;
	}
	return $out;
}

# A request on a stream of its own: a Client, of which all that streams is used in the same way.
sub request {
	my ($self, $name, $method, $path, $headers, $body) = @_;
	my $id = $self->{next_id};
	$self->{next_id} += 2;
	my %h = ($path =~ /status-stream/ ? (accept => 'text/event-stream') : (), defined $body ? ('content-type' => 'application/json', 'content-length' => length $body) : (), %{$headers // {}});
	my @h = (':method' => $method, ':scheme' => 'http', ':authority' => '127.0.0.1', ':path' => $path, map { ($_ => $h{$_}) } sort keys %h);
	my $block = '';
	$block .= "\0" . hpack(splice @h, 0, 2) while @h;
	$self->frame(HEADERS => 4 | (defined $body ? 0 : 1), $id, $block);
	$self->frame(DATA => 1, $id, $body) if defined $body;
	my $c = $self->{stream}{$id} = H2::Stream->new($self->{s}, $name);
	@$c{qw(connection id opened_at body sse event events next unread)} = ($self, $id, Time::HiRes::time, '', '', {}, [], 0, 0);
	$c->{headers} = { 'content-type' => $path =~ /status-stream/ ? 'text/event-stream' : '' };
	return $c;
}
sub watch { my ($self, $name, $match, $block, %headers) = @_; return $self->request($name, GET => $self->{s}->stream_path($match, $block), \%headers) }

sub wants_read { return 1 }
sub wants_write { return length $_[0]{out} }
sub pump { return Client::pump(@_) }
sub take {
	my ($self) = @_;
	my $n = sysread $self->{fh}, $self->{in}, 262144, length $self->{in};
	return if !defined $n && $!{EAGAIN};
	return $self->gone('cut') if !$n;
	while (length $self->{in} >= 9) {
		my ($high, $low, $type, $flags, $id) = unpack 'CnCCN', $self->{in};
		my $length = $high << 16 | $low;
		return if length $self->{in} < 9 + $length;
		my $payload = substr $self->{in}, 9, $length;
		substr $self->{in}, 0, 9 + $length, '';
		$self->take_frame($type, $flags, $id & 0x7fffffff, $payload);
	}
	return;
}
sub take_frame {
	my ($self, $type, $flags, $id, $payload) = @_;
	my $c = $self->{stream}{$id};
	if ($type == $TYPE{SETTINGS}) {
		return if $flags & 1;
		my %set = unpack '(nN)*', $payload;
		$self->{settings} = { %{$self->{settings}}, %set };
		$self->frame(SETTINGS => 1, 0, '');
	} elsif ($type == $TYPE{PING}) {
		$self->frame(PING => 1, 0, $payload) if !($flags & 1);
	} elsif ($type == $TYPE{GOAWAY}) {
		$self->{goaway} = [unpack 'NN', $payload];
	} elsif ($type == $TYPE{RST_STREAM}) {
		$c->{code} = unpack 'N', $payload;
		$c->over('reset');
	} elsif ($type == $TYPE{HEADERS} && $c) {
		$payload = substr $payload, 1 if $flags & 8;
		$payload = substr $payload, 5 if $flags & 32;
		$c->{status} //= $STATUS{unpack 'C', $payload =~ s/^[\x20-\x3f]+//r} // 'other';
	} elsif ($type == $TYPE{DATA}) {
		$self->frame(WINDOW_UPDATE => 0, 0, pack 'N', length $payload) if length $payload;	# the connection's window is always open
		if ($c && length $payload) {
			$c->{unread} += length $payload;
			$c->acknowledge if !$c->{stopped};
			$c->take_body($payload) if !$c->{closed};
		}
	}
	$c->over('clean') if $c && !$c->{closed} && $flags & 1 && ($type == $TYPE{HEADERS} || $type == $TYPE{DATA});
	return;
}
sub gone { my ($self, $how) = @_; $_->{closed} //= $how for values %{$self->{stream}}; return $self->close }
sub close { my ($self) = @_; CORE::close delete $self->{fh} if $self->{fh}; return $self }

package H2::Stream;
our @ISA = ('Client');
sub acknowledge {
	my ($self) = @_;
	$self->{connection}->frame(WINDOW_UPDATE => 0, $self->{id}, pack 'N', $self->{unread}) if $self->{unread} && !$self->{closed};
	$self->{unread} = 0;
	return;
}
sub resume_reading { my ($self) = @_; $self->{stopped} = 0; $self->acknowledge; return $self }
# RST_STREAM with CANCEL, which is what a browser sends for EventSource.close().
sub close { my ($self) = @_; $self->{connection}->frame(RST_STREAM => 0, $self->{id}, pack 'N', 8) if !$self->{closed}; $self->{closed} //= 'by us'; return $self }

package main;

my $patience = $ENV{SEATCAST_PATIENCE} // 1;
my $poll = 0.2;
my $slack = 0.3 * $patience;
my $s = Scenario->new(seats => 1000, heartbeat => '60m', reconcile_interval => '60m', stall_timeout => int(8 * $patience) . 's');
my %round;
# Seats of a block change: one, or the first so many.
sub change {
	my ($block, $n) = @_;
	my $status = ++$round{$block} % 2 ? 'OCCUPIED' : 'HOLD';
	my $first = $block == 101 ? 101 : 1000001;
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, $first + i, '$status' FROM generate_series(0, $n - 1) i
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	return ($first + $n - 1, $status, time);
}
# The longest of them took so many seconds to show it.
sub slowest {
	my ($seat, $status, $since, @c) = @_;
	$_->expect_seat($seat => $status) for @c;
	my ($last) = sort { $b <=> $a } map { $_->{events}[-1]{at} } @c;
	return $last - $since;
}

# ---- eight streams on one connection ----

my $h = H2->connect($s);
my @fan = map { $h->watch("fan $_", 1, $_ < 4 ? 101 : 102) } 0 .. 7;
$_->expect_event('init') for @fan;
is(join(' ', map { $_->{status} } @fan), join(' ', (200) x 8), 'eight streams, one connection');
my ($last) = sort { $b <=> $a } map { $_->{event_seen}{at} - $_->{opened_at} } @fan;
$s->in_time($last, 0.7 * $patience, sprintf 'the last init is there after %.0f ms, though no stream ends', 1000 * $last);
$s->expect_counter(viewers => 8);
for my $n (1 .. 5) {
	my ($block, @who) = $n % 2 ? (101, @fan[0 .. 3]) : (102, @fan[4 .. 7]);
	my $took = slowest(change($block, 1), @who);
	$s->in_time($took, $poll + $slack, sprintf 'update %d: the last of four streams has it after %.0f ms (poll: 200 ms)', $n, 1000 * $took);
}

# One more than lighttpd takes on a connection is refused, and may be asked again: that is what a browser waits for.
my $most = $h->{settings}{3} // 0;
cmp_ok($most, '>=', 8, "lighttpd takes $most streams at a time on a connection");
my @more = map { $h->watch("more $_", 1, 101)->expect_event('init') } 9 .. $most;
my $ninth = $h->watch('one more', 1, 101);
$ninth->expect_closed(how => 'reset');
is($ninth->{code}, 7, '… one more is refused (REFUSED_STREAM)');
ok(!$h->{goaway} && $h->{fh}, '… and the connection goes on');
$_->close for @more;
$s->expect_counter(viewers => 8);

# ---- a stream that is reset ----

my $t = time;
$fan[0]->close;
$s->expect_counter(viewers => 7, within => 2);
$s->in_time(time - $t, 0.5 * $patience, 'RST_STREAM: its viewer is gone at once, though nothing was sent');
$s->in_time(slowest(change(101, 1), @fan[1 .. 3]), $poll + $slack, '… and the others have their updates');

# ---- requests beside streams ----

my $etag = $s->http(GET => $s->snapshot_path(1, 101))->{headers}{etag};
sub answer {
	my ($c, $status) = @_;
	$c->expect_closed(how => 'clean');
	is($c->{status}, $status, "$c->{name}: $status") or diag($c->{body});
	return $c;
}
my $body = answer($h->request('snapshot', GET => $s->snapshot_path(1, 101)), 200)->{body};
is(scalar(() = $body =~ /"id":/g), 1000, '… with all seats');
answer($h->request('snapshot again', GET => $s->snapshot_path(1, 101), { 'if-none-match' => $etag }), 304);
answer($h->request('no such block', GET => $s->stream_path(1, 999)), 404);
answer($h->request('hold', POST => '/api/matches/1/allocation/seats/700/hold', {}, '{"userId":7}'), 200);
$fan[1]->expect_seat(700 => 'HOLD', within => $poll + 2);
answer($h->request('the page', GET => '/index.html'), 200);
my $resumed = $h->watch('resumed', 1, 101, 'last-event-id' => $fan[1]{last_id});
change(101, 2);
$resumed->expect_event('update');
is(scalar($resumed->events('init')), 0, 'Last-Event-ID is passed on: no init');
$resumed->close;
$s->expect_counter(viewers => 7);

# ---- a stream that is not read ----

# Its window is used up: what comes for it waits in lighttpd, then in seatcast, which keeps the latest state only.
my $stuck = $h->watch('stuck', 1, 101)->stop_reading;
$s->expect_counter(viewers => 8);
my @delay;
my $full = 0;		# how much the window, lighttpd and the sockets between them hold differs from machine to machine
while ($full < 4 && @delay < 100) {
	change(101, 1000);
	push @delay, slowest(change(102, 1), @fan[4 .. 7]);
	$full = ($s->counter('behind') // 0) ? $full + 1 : 0;
}
# Something of it stays news, whichever of the two states it was full with.
$s->sql("UPDATE allocations SET status = 'AVAILABLE' WHERE seat_id BETWEEN 101 AND 110");
$fan[1]->expect_seat(110 => 'AVAILABLE');
is($full, 4, '… all between seatcast and it is full, and three changes more come (' . @delay . ' changes)');
@delay = sort { $a <=> $b } @delay;
$s->in_time($delay[@delay / 2], $poll + $slack, sprintf 'a stream is not read: the others are not held up (%d updates, median %.0f ms, slowest %.0f ms)',
	scalar @delay, map { 1000 * $_ } @delay[@delay / 2, -1]);
cmp_ok($stuck->{unread}, '<=', 65535, "… it got what its window takes ($stuck->{unread} bytes)");
my %now = map { ($_->[0] => $_->[1]) } $s->sql("SELECT s.id, coalesce(a.status::text, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = 101");
$fan[1]->expect_same_seats(\%now);
$stuck->resume_reading->expect_same_seats(\%now);
$s->expect_counter(conflations => '>=', 1);

# For longer than --stall-timeout: seatcast ends it, and it alone.
$stuck->stop_reading;
$s->expect('a stream that takes nothing is ended by seatcast', sub { change(101, 1000); $s->pass_time(0.5); ($s->counter('stalls') // 0) == 1 }, 40 * $patience);
$s->expect_counter(viewers => 7);
is(join(' ', map { $_->{closed} // 'open' } @fan[1 .. 7]), join(' ', ('open') x 7), '… it alone');
slowest(change(102, 1), @fan[4 .. 7]);
$stuck->resume_reading->expect_closed;

# ---- the connection ends ----

$t = time;
$h->close;
$s->expect_counter(viewers => 0, within => 2);
$s->in_time(time - $t, 0.5 * $patience, 'the connection is closed: all seven viewers are gone at once');

# ---- forty streams ----

my @h = map { H2->connect($s) } 1 .. 5;
my @forty = map { my $n = $_; map { $h[$n]->watch("viewer $n.$_", 1, $_ % 2 ? 101 : 102) } 1 .. 8 } 0 .. 4;
ok($s->wait_for(sub { !grep { !$_->events('init') } @forty }), 'five connections, forty streams of two blocks: all have init');
$s->expect_counter(viewers => 40);
is(scalar($s->pids('loop')), 2, '… of two loops');
my ($seat, $status, $since) = change(101, 1);
my @half = grep { $_->{name} =~ /[1357]$/ } @forty;
ok($s->wait_for(sub { !grep { ($_->{seats}{$seat} // '') ne $status } @half }), 'all twenty of one block are told');
my ($slowest) = sort { $b <=> $a } map { $_->{events}[-1]{at} - $since } @half;
$s->in_time($slowest, $poll + $slack, sprintf '… the last after %.0f ms', 1000 * $slowest);
$_->close for @h[1 .. 4];
$s->expect_counter(viewers => 8);

# ---- lighttpd is reloaded ----

my @left = @forty[0 .. 7];
kill 'USR1', $s->pid('lighttpd');
my $late = $h[0]->request('late', GET => '/healthz');		# a browser that does not know yet
$s->expect('reload: the connection is told (GOAWAY)', sub { $h[0]{goaway} });
cmp_ok($h[0]{goaway}[0], '<', $late->{id}, '… that a request of now is one for a new connection');
ok($s->wait_for(sub { !grep { !$_->{closed} } @left }, 12), '… its streams end, seconds later at most');
change(101, 3);
my $new = H2->connect($s);
my $next = $new->watch('new', 1, 101)->expect_event('init');
my $back = $new->watch('back', 1, 101, 'last-event-id' => $left[0]{last_id});
$back->{seats} = { %{$left[0]{seats}} };
$back->expect_event('update')->expect_same_seats($next);
is(scalar($back->events('init')), 0, '… and go on where they were, on a new connection');
$new->close;

# ---- another's client ----

SKIP: {
	my $version = `curl -V 2>/dev/null`;
	skip 'curl with HTTP2 is not installed', 3 if $version !~ /^Features:.* HTTP2\b/m;
	my $out = $s->dir . '/curl';
	$s->{stage}->spawn('curl', ['curl', '-sN', '--http2-prior-knowledge', '-D', "$out.head", '-o', "$out.body", $s->url($s->stream_path(1, 102))]);
	$s->expect('curl: init', sub { Stage::slurp("$out.body") =~ /^event: init\ndata: .*\nid: .*\n\n/m });
	like(Stage::slurp("$out.head"), qr{^HTTP/2 200 \r?\n.*^content-type: text/event-stream}ms, '… in HTTP/2');
	change(102, 1);
	$s->expect('… and an update', sub { Stage::slurp("$out.body") =~ /^event: update\n/m }, $poll + 2);
	$s->{stage}->stop('curl');
}
$s->expect_counter(viewers => 0);
$s->done;
