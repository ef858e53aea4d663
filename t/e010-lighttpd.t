#!/usr/bin/env perl
# Through the real lighttpd with the recommended configuration: HTTP/1.1 streams at once and in chunks, HTTP/1.0 too; a client
# that leaves is noticed at once; a restart of lighttpd costs viewers a reconnect and nothing else.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 20, heartbeat => '60m');
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');
is($c->{headers}{'transfer-encoding'}, 'chunked', 'HTTP/1.1: chunked');
ok(!defined $c->{headers}{'content-length'}, '… without a length');
cmp_ok($c->{events}[0]{at} - $c->{opened_at}, '<', 0.7, 'init comes at once, though the stream does not end');
my $stay = $s->client('stay')->watch(1, 101)->expect_event('init');
my $before = time;
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$c->expect_event('update');
cmp_ok($c->{event_seen}{at} - $before, '<', 0.2 + 0.15 * ($ENV{SEATCAST_PATIENCE} // 1), 'an update of some 70 bytes is not kept back');

# HTTP/1.0: the end of the connection is the end of the answer.
my $old = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->{stage}{port}) or die $!;
print {$old} 'GET ' . $s->stream_path(1, 101) . " HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n";
$old->blocking(0);
my $text = '';
ok($s->wait_for(sub { sysread $old, $text, 65536, length $text; $text =~ /^event: init\ndata: .*\nid: .*\n\n/m }, 3), 'HTTP/1.0: init');
unlike($text, qr/^transfer-encoding/mi, '… not chunked');
$s->expect_counter(viewers => 3);

# Who leaves is noticed without anything being sent: no change, no beat.
$before = time;
CORE::close $old;
$s->expect_counter(viewers => 2, within => 2);
$c->close;
$s->expect_counter(viewers => 1, within => 2);
$s->in_time(time - $before, 0.5, 'clients that leave are noticed at once');

# lighttpd restarted, on the same port, while something happens.
my $port = $s->{stage}{port};
my ($loop) = $s->pids('loop 1/101');
$s->stop_lighttpd;
$stay->expect_closed;
$s->expect_counter(viewers => 0, within => 3);
$s->sql("SELECT seatcast.hold(1, 102, 7, '5m'); SELECT seatcast.confirm(1, 7, '{101}')");
$s->start_lighttpd(port => $port);
$stay->reconnect->expect_seat(101 => 'OCCUPIED', 102 => 'HOLD', within => 3);
is(scalar($stay->events('init')), 0, 'a viewer of before goes on from its Last-Event-ID');
is(($s->pids('loop 1/101'))[0], $loop, '… at the same loop');
$s->client('new')->watch(1, 101)->expect_event('init')->expect_same_seats($stay);

# seatcast restarted under lighttpd: refused in between, then all is well again.
$s->stop_seatcast;
$stay->expect_closed(how => 'clean');
is($s->http(GET => '/healthz')->{status}, 503, 'seatcast away: lighttpd says 503');
$s->restart_seatcast;
$s->expect('back: lighttpd finds it', sub { $s->http(GET => '/healthz')->{status} == 200 }, 3);
$stay->reconnect->expect_event('init')->expect_seat(101 => 'OCCUPIED', 102 => 'HOLD');
unlike($s->log_text('error'), qr/unexpected end-of-file|response not received/, 'lighttpd saw no request cut off') if !$ENV{SEATCAST_WRAP};
$s->done;
