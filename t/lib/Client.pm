# SPDX-License-Identifier: ISC
package Client;

# One viewer: an HTTP/1.1 client that streams, or, when the scenario has no lighttpd,
# the same over FastCGI.  It never blocks: whatever waits in its Scenario reads for all.
#
# Of a stream it keeps the body's bytes {body}, every event {type, data, json, id, at,
# raw} in {events}, and folds init and update into {seats} as the page does; {last_id}
# and {retry} are an EventSource's.  The expect_* are one TAP line each, retry until
# their deadline, return the client, and end the test when they fail.
# Source: WHATWG HTML 9.2.6 (event stream), RFC 9112 section 7.1 (chunked).

use v5.32;
use warnings;
use JSON::PP qw(decode_json);
use Socket;
use Test::More ();
use Time::HiRes qw(time);
use Answers;
use FastCGI;

sub new {
	my ($class, $scenario, $name, %o) = @_;
	return bless { s => $scenario, name => $name, rcvbuf => $o{rcvbuf}, seats => {}, last_id => undef }, $class;
}

# Send a request and return; headers as pairs, undef leaves a usual one out.
sub get { my ($self, $path, @headers) = @_; return $self->request(GET => $path, \@headers) }
sub watch { my ($self, $match, $block, @headers) = @_; return $self->get($self->{s}->stream_path($match, $block), @headers) }

sub request {
	my ($self, $method, $path, $headers, $body) = @_;
	$self->close;
	my %given = ref $headers eq 'HASH' ? %$headers : @{$headers // []};
	my %h = (Host => '127.0.0.1', $path =~ /status-stream/ ? (Accept => 'text/event-stream') : (Connection => 'close'),
		defined $body ? ('Content-Length' => length $body, 'Content-Type' => 'application/json') : (), %given);
	delete $h{$_} for grep { !defined $h{$_} } keys %h;
	@$self{qw(method path given)} = ($method, $path, \%given);
	my $stage = $self->{s}{stage};
	my $to = $self->{s}{direct} ? pack_sockaddr_un($stage->{listen}) : pack_sockaddr_in($stage->{port}, INADDR_LOOPBACK);
	socket my $fh, $self->{s}{direct} ? PF_UNIX : PF_INET, SOCK_STREAM, 0 or die "socket: $!";
	setsockopt $fh, SOL_SOCKET, SO_RCVBUF, $self->{rcvbuf} if $self->{rcvbuf};
	bind $fh, pack_sockaddr_in(0, inet_aton($self->{s}{from})) if $self->{s}{from};	# an address of loopback to come from
	connect $fh, $to or die "$self->{name}: connect: $!\n";
	$fh->blocking(0);
	$self->{out} = $self->{s}{direct} ? fcgi_request(method => $method, path => $path, headers => \%h, body => $body)
	    : join("\r\n", "$method $path HTTP/1.1", (map { "$_: $h{$_}" } sort keys %h), '', '') . ($body // '');
	@$self{qw(fh opened_at in mode body status headers closed stopped sse event error)} =
	    ($fh, time, '', 'head', '', undef, {}, undef, 0, '', {}, undef);
	@$self{qw(events next reader head noted)} = ([], 0, FastCGI::Reader->new, '', 0);
	$self->pump;
	return $self;
}

# As EventSource does, but at once: the same request, with Last-Event-ID once an id is known.
sub reconnect {
	my ($self) = @_;
	return $self->request($self->{method}, $self->{path},
		{ %{$self->{given}}, defined $self->{last_id} ? ('Last-Event-ID' => $self->{last_id}) : () });
}

sub close { my ($self) = @_; CORE::close delete $self->{fh} if $self->{fh}; return $self }
sub stop_reading { my ($self) = @_; $self->{stopped} = 1; return $self }
sub resume_reading { my ($self) = @_; $self->{stopped} = 0; return $self }
sub events { my ($self, $type) = @_; return grep { !defined $type || $_->{type} eq $type } @{$self->{events}} }

# ---- bytes to events; called by the Scenario ----

sub wants_read { my ($self) = @_; return $self->{fh} && !$self->{stopped} }
sub wants_write { my ($self) = @_; return $self->{fh} && length $self->{out} }

sub pump {				# write what is left of the request
	my ($self) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $n = syswrite $self->{fh}, $self->{out};
	substr $self->{out}, 0, $n // 0, '';
	$self->{out} = '' if !defined $n && !$!{EAGAIN};
	return;
}

sub take {				# read what is there
	my ($self) = @_;
	my $n = sysread $self->{fh}, my $bytes, 262144;
	return if !defined $n && $!{EAGAIN};
	return $self->over($self->{mode} eq 'eof' ? 'clean' : 'cut') if !$n;
	return $self->take_http($bytes) if !$self->{s}{direct};
	for my $r ($self->{reader}->feed($bytes)) {
		return $self->over('clean') if $r->{type} == FCGI_END_REQUEST;
		next if $r->{type} != FCGI_STDOUT;
		if (!defined $self->{status}) {
			my $answer = fcgi_cgi_answer($self->{head} .= $r->{content}) or next;
			@$self{qw(status headers)} = @$answer{qw(status headers)};
			$r->{content} = $answer->{body};
		}
		$self->take_body($r->{content});
	}
	return;
}

sub over {
	my ($self, $how) = @_;
	$self->{closed} = $how;
	$self->{closed_at} = time;
	$self->close;
	$self->note_answer if defined $self->{status};
	return;
}

# For the check against doc/openapi.yaml: a stream is its header, its events follow one by one.
sub note_answer {
	my ($self) = @_;
	return if $self->{noted}++;
	my $stream = ($self->{headers}{'content-type'} // '') =~ m{^text/event-stream};
	Answers::record(kind => 'answer', test => $0, base => $self->{s}{seatcast}{base_path} // '', method => $self->{method}, path => $self->{path},
		status => $self->{status}, headers => $self->{headers}, body => $stream ? '' : $self->{body}, cut => ($self->{closed} // '') eq 'cut' ? 1 : 0);
	return;
}

sub take_http {
	my ($self, $bytes) = @_;
	$self->{in} .= $bytes;
	while (1) {
		if ($self->{mode} eq 'head') {
			$self->{in} =~ s{\AHTTP/1\.[01] (\d\d\d)[^\n]*\n(.*?\r?\n)?\r?\n}{}s or return;
			my ($status, $lines) = ($1, $2 // '');
			next if $status < 200;
			$self->{status} = $status;
			$self->{headers} = { map { /\A([^:]+):\s*(.*?)\s*\z/ ? (lc $1, $2) : () } split /\r?\n/, $lines };
			$self->{length} = $self->{headers}{'content-length'};
			$self->{mode} = $self->{method} eq 'HEAD' || $status == 204 || $status == 304 ? 'none'
			    : ($self->{headers}{'transfer-encoding'} // '') =~ /chunked/i ? 'chunk'
			    : defined $self->{length} ? 'length' : 'eof';
		} elsif ($self->{mode} eq 'chunk') {
			$self->{in} =~ s/\A([0-9A-Fa-f]+)[^\n]*\n// or return;
			$self->{length} = hex $1;
			$self->{mode} = $self->{length} ? 'chunk-data' : 'trailer';
		} elsif ($self->{mode} eq 'chunk-data') {
			return if length $self->{in} < $self->{length} + 2;
			$self->take_body(substr $self->{in}, 0, $self->{length}, '');
			substr $self->{in}, 0, 2, '';
			$self->{mode} = 'chunk';
		} elsif ($self->{mode} eq 'trailer') {
			$self->{in} =~ s/\A([^\n]*)\n// or return;
			return $self->over('clean') if $1 !~ /[^\r]/;
		} else {
			my $take = $self->{mode} eq 'none' ? 0 : $self->{mode} eq 'eof' ? length $self->{in} : $self->{length};
			my $part = substr $self->{in}, 0, $take, '';
			$self->take_body($part);
			return if $self->{mode} eq 'eof';
			return $self->over('clean') if $self->{mode} eq 'none' || !($self->{length} -= length $part);
			return;
		}
	}
}

sub take_body {
	my ($self, $bytes) = @_;
	$self->{body} .= $bytes;
	return if ($self->{headers}{'content-type'} // '') !~ m{^text/event-stream};
	$self->{sse} .= $bytes;
	while ($self->{sse} =~ s/\A([^\r\n]*)(?:\r\n|\n|\r(?=.))//s) {
		my $line = $1;
		my $e = $self->{event};
		if ($line eq '') {
			$self->{last_id} = $e->{id} if defined $e->{id};
			$self->{event} = {};
			$self->take_event($e) if defined $e->{data};
			next;
		}
		$e->{raw} .= "$line\n";
		my ($field, $value) = $line =~ /\A([^:]*)(?:: ?(.*))?\z/s;
		$value //= '';
		if ($field eq 'data') { $e->{data} = defined $e->{data} ? "$e->{data}\n$value" : $value }
		elsif ($field eq 'event') { $e->{type} = $value }
		elsif ($field eq 'id') { $e->{id} = $value if $value !~ /\0/ }
		elsif ($field eq 'retry') { $self->{retry} = $value if $value =~ /\A[0-9]+\z/ }
	}
	return;
}

sub take_event {
	my ($self, $e) = @_;
	$e->{type} ||= 'message';
	$e->{at} = time;
	$e->{json} = eval { decode_json($e->{data}) };
	my $data = ref $e->{json} eq 'HASH' ? $e->{json}{data} : undef;
	$self->{seats} = { map { ($_->{id} => $_->{status}) } @{$data->{seats}} } if $e->{type} eq 'init' && $data;
	$self->{seats}{$data->{seatId}} = $data->{status} if $e->{type} eq 'update' && $data;
	push @{$self->{events}}, $e;
	$self->note_answer;
	Answers::record(kind => 'event', test => $0, base => $self->{s}{seatcast}{base_path} // '', path => $self->{path}, type => $e->{type}, data => $e->{data});
	return;
}

# ---- expectations ----

# One TAP line.  A failure says what the client has seen, and ends the test.
sub verdict {
	my ($self, $ok, $says) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 2;
	return $self if Test::More::ok($ok, "$self->{name}: $says");
	my @last = @{$self->{events}}[-8 .. -1];
	Test::More::diag("  status ", $self->{status} // 'none yet', ", ", $self->{closed} // 'open', ", last id ",
		$self->{last_id} // 'none', ", ", scalar @{$self->{events}}, " events; the last:\n",
		map { "    $_->{type} " . substr($_->{data}, 0, 200) . "\n" } grep { defined } @last) if $self->{events};
	die "$self->{name}: not seen: $says\n";
}

# The next event of this type; with a sub, for which it is true (in $_ too); with seatId => 101, status => 'HOLD', whose
# data has that.  Events before it are passed over; {event_seen} is it afterwards.
sub expect_event {
	my ($self, $type, @o) = @_;
	my $test = ref $o[0] eq 'CODE' ? shift @o : undef;
	my %want = @o;
	my $within = delete $want{within};
	my $found = $self->{s}->wait_for(sub {
		while ($self->{next} < @{$self->{events}}) {
			my $e = $self->{events}[$self->{next}++];
			my $data = ref $e->{json} eq 'HASH' && ref $e->{json}{data} eq 'HASH' ? $e->{json}{data} : {};
			next if $e->{type} ne $type || grep { ($data->{$_} // '') ne $want{$_} } keys %want;
			local $_ = $e;
			return $self->{event_seen} = $e if !$test || $test->($e);
		}
		return $self->{closed} && 'closed';
	}, $within);
	return $self->verdict(ref $found, join ' ', "event $type", map { "$_=$want{$_}" } sort keys %want);
}

# Seats show these statuses: 101 => 'HOLD', 102 => 'AVAILABLE', within => seconds.
sub expect_seat {
	my ($self, %want) = @_;
	my $within = delete $want{within};
	my $ok = $self->{s}->wait_for(sub { !grep { ($self->{seats}{$_} // '') ne $want{$_} } keys %want }, $within);
	my @wrong = map { "seat $_ is " . ($self->{seats}{$_} // 'unknown') } grep { ($self->{seats}{$_} // '') ne $want{$_} } keys %want;
	Test::More::diag("$self->{name}: $_") for @wrong;
	return $self->verdict($ok, join ', ', map { "seat $_ $want{$_}" } sort keys %want);
}

# The same seats as another client, or as given: { 101 => 'HOLD', … }.
sub expect_same_seats {
	my ($self, $other, %o) = @_;
	my $text = sub { my ($seats) = @_; return join ' ', map { "$_=$seats->{$_}" } sort { $a <=> $b } keys %$seats };
	my $theirs = sub { $text->(ref $other eq 'HASH' ? $other : $other->{seats}) };
	my $ok = $self->{s}->wait_for(sub { $text->($self->{seats}) eq $theirs->() }, $o{within});
	return $self->verdict($ok, 'same seats as ' . (ref $other eq 'HASH' ? 'expected' : $other->{name}));
}

sub expect_status {
	my ($self, $status, %o) = @_;
	$self->{s}->wait_for(sub { defined $self->{status} || $self->{closed} }, $o{within});
	return $self->verdict(($self->{status} // 0) == $status, "status $status");
}

# The answer ends; how => 'clean' (last chunk or END_REQUEST seen) or 'cut'.
sub expect_closed {
	my ($self, %o) = @_;
	$self->{s}->wait_for(sub { $self->{closed} }, $o{within});
	my $how = $o{how} // $self->{closed} // 'closed';
	return $self->verdict(($self->{closed} // '') eq $how, "connection ends ($how)");
}

# For these seconds no event comes but beats (or the types in except => []).
sub expect_silence {
	my ($self, $seconds, %o) = @_;
	my %ok = map { $_ => 1 } @{$o{except} // ['beat']};
	my $from = @{$self->{events}};
	my $came = $self->{s}->wait_for(sub { (grep { !$ok{$_->{type}} } @{$self->{events}}[$from .. $#{$self->{events}}])[0] }, $seconds);
	return $self->verdict(!$came && !$self->{closed}, "silence for $seconds s");
}

1;
