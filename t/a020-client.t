#!/usr/bin/env perl
# The tests' own viewer reads a stream alike however its bytes are split, as WHATWG says an EventSource does.
# SPDX-License-Identifier: ISC
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Client;
use FastCGI;
use Test::More;

my $body = join '', "\r\nretry: 2317\n\n", "id: a-1\nevent: init\ndata: {\"data\":{\"seats\":[{\"id\":101,\"status\":\"HOLD\"}]}}\n\n",
	": a comment\n", "event: update\r\ndata: {\"data\":{\"seatId\":101,\ndata: \"status\":\"AVAILABLE\"}}\r\n\r\n",
	"id: a-2\revent:update\rdata:{\"data\":{\"seatId\":102,\"status\":\"OCCUPIED\"}}\r\r", "id: a-3\nevent: nothing\n\n",
	"data: unfinished\n";
my @expect = (['init', 'a-1'], ['update', undef], ['update', 'a-2']);

sub stream {
	my ($wire, $size) = @_;
	my $c = Client->new({}, 'parser');
	@$c{qw(in mode method body status headers sse event events)} = ('', 'head', 'GET', '', undef, {}, '', {}, []);
	$c->take_http($_) for unpack "(a$size)*", $wire;
	return $c;
}

for my $piece (1, 2, 3, 7, 1000) {			# sizes of chunks, and of what arrives at a time
	my $chunks = join '', map { sprintf "%x;x=y\r\n%s\r\n", length, $_ } unpack "(a$piece)*", $body;
	my $wire = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n$chunks" . "0\r\n\r\n";
	for my $size (1, 2, 5, 11, 100000) {
		my $c = stream($wire, $size);
		is_deeply([map { [@$_{qw(type id)}] } $c->events], \@expect, "chunks of $piece, reads of $size: events");
		is_deeply([@$c{qw(seats last_id retry status closed body)}],
			[{ 101 => 'AVAILABLE', 102 => 'OCCUPIED' }, 'a-3', 2317, 200, 'clean', $body], '... and what they leave');
	}
}

is(stream("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 1)->{closed}, 'clean', 'a 304 has no body');
is(stream("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 1)->{body}, 'ok', 'a body of known length');
is(stream("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 1)->{closed}, undef, 'one that is not complete');

my $bytes = fcgi_request(path => '/a%20b?c', body => 'x' x 300, split => 100, pad => 3, id => 9, pad_begin => 1, pad_end => 2);
for my $size (1, 7, 100000) {
	my $reader = FastCGI::Reader->new;
	my @r = map { $reader->feed($_) } unpack "(a$size)*", $bytes;
	is($r[0]{type}, FCGI_BEGIN_REQUEST, "records, reads of $size");
	is(join('', map { $_->{content} } grep { $_->{type} == FCGI_STDIN } @r), 'x' x 300, '... with their content');
	is(scalar(grep { $_->{id} != 9 } @r), 0, '... and id');
}

done_testing;
