# SPDX-License-Identifier: ISC
package FastCGI;

# The web server's side of FastCGI 1.0, byte by byte: what hostile tests need.
#
# Building: fcgi_record, fcgi_pairs, fcgi_request return bytes; whatever a record
# says (version, id, padding, lengths) can be made wrong on purpose.
# Talking: FastCGI->connect(ADDR) is one connection to a FastCGI socket; every
# wait has a deadline.  FastCGI::Reader turns bytes into records incrementally.
# Source: FastCGI Specification 1.0, sections 3.3 (records), 3.4 (pairs), 5, 8.

use v5.32;
use warnings;
use Carp qw(croak);
use Exporter qw(import);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Time::HiRes qw(time);
use Answers;

use constant {
	FCGI_BEGIN_REQUEST => 1, FCGI_ABORT_REQUEST => 2, FCGI_END_REQUEST => 3, FCGI_PARAMS => 4,
	FCGI_STDIN => 5, FCGI_STDOUT => 6, FCGI_STDERR => 7, FCGI_DATA => 8, FCGI_GET_VALUES => 9,
	FCGI_GET_VALUES_RESULT => 10, FCGI_UNKNOWN_TYPE => 11,
	FCGI_RESPONDER => 1, FCGI_AUTHORIZER => 2, FCGI_FILTER => 3, FCGI_KEEP_CONN => 1,
};
our @EXPORT = (qw(fcgi_record fcgi_begin fcgi_pairs fcgi_env fcgi_request fcgi_cgi_answer),
	grep { /^FCGI_/ } keys %FastCGI::);

# One record.  Options: id => 1, version => 1, pad => bytes of padding, length => a lie about the content's length.
sub fcgi_record {
	my ($type, $content, %o) = @_;
	my $pad = $o{pad} // 0;
	return pack('CCnnCx', $o{version} // 1, $type, $o{id} // 1, $o{length} // length $content, $pad)
		. $content . ("\0" x $pad);
}

sub fcgi_begin {
	my (%o) = @_;
	return fcgi_record(FCGI_BEGIN_REQUEST, pack('nCx5', $o{role} // FCGI_RESPONDER, $o{flags} // 0), %o);
}

# Name-value pairs in the order given; "long" writes each length in four bytes, needed or not.
sub fcgi_pairs {
	my ($pairs, %o) = @_;
	my $len = sub { $_[0] > 127 || $o{long} ? pack('N', $_[0] | 0x80000000) : pack('C', $_[0]) };
	my $out = '';
	for (my $i = 0; $i < @$pairs; $i += 2) {
		my ($name, $value) = @$pairs[$i, $i + 1];
		$out .= $len->(length $name) . $len->(length $value) . $name . $value;
	}
	return $out;
}

# The variables that lighttpd sends for a request, as an ordered list of pairs.
sub fcgi_env {
	my ($method, $target, $headers, $body) = @_;
	my ($path, $query) = split /\?/, $target, 2;
	my @env = (
		CONTENT_LENGTH => length($body // ''), QUERY_STRING => $query // '', REQUEST_URI => $target,
		SCRIPT_NAME => $path =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger, PATH_INFO => '',
		REDIRECT_STATUS => 200, REQUEST_METHOD => $method, SERVER_PROTOCOL => 'HTTP/1.1',
		GATEWAY_INTERFACE => 'CGI/1.1', SERVER_SOFTWARE => 'test', SERVER_NAME => '127.0.0.1',
		SERVER_PORT => 80, REMOTE_ADDR => '127.0.0.1', REMOTE_PORT => 1, HTTP_HOST => '127.0.0.1',
	);
	my @h = ref $headers eq 'HASH' ? %$headers : @{$headers // []};
	while (my ($name, $value) = splice @h, 0, 2) {
		my $var = uc($name) =~ tr/-/_/r;
		push @env, ($var eq 'CONTENT_TYPE' ? $var : "HTTP_$var"), $value;
	}
	return \@env;
}

# A whole request: BEGIN, PARAMS, empty PARAMS, STDIN, empty STDIN.
# Options: method, path, headers, body, env => [...] (instead of those four), id, role, flags, version,
# pad (of PARAMS and STDIN with content; of the empty ones with pad_end, of BEGIN with pad_begin, which libfcgi cannot
# read), split => most content bytes of one record (PARAMS and STDIN).
sub fcgi_request {
	my (%o) = @_;
	my $env = $o{env} // fcgi_env($o{method} // 'GET', $o{path} // '/', $o{headers}, $o{body});
	my %r = map { defined $o{$_} ? ($_ => $o{$_}) : () } qw(id version);
	my $stream = sub {
		my ($type, $bytes) = @_;
		my $max = $o{split} // 65535;
		return join '', (map { fcgi_record($type, $_, %r, pad => $o{pad}) } unpack("(a$max)*", $bytes)),
			fcgi_record($type, '', %r, pad => $o{pad_end});
	};
	return fcgi_begin(%r, pad => $o{pad_begin}, role => $o{role}, flags => $o{flags})
		. $stream->(FCGI_PARAMS, fcgi_pairs($env, %o)) . $stream->(FCGI_STDIN, $o{body} // '');
}

# The bytes of STDOUT as an answer: {status, headers (lower case), body}; undef while the header is not complete.
sub fcgi_cgi_answer {
	my ($stdout) = @_;
	my ($head, $body) = $stdout =~ /\A(.*?)\r?\n\r?\n(.*)\z/s or return undef;
	my %headers = map { /\A([^:]+):\s*(.*?)\s*\z/ ? (lc $1, $2) : () } split /\r?\n/, $head;
	return { status => ($headers{status} // '200') =~ s/ .*//r, headers => \%headers, body => $body };
}

# ADDR: a path, or HOST:PORT as --listen takes it.
sub connect {
	my ($class, $addr, %o) = @_;
	my $tcp = $addr =~ m{\A\[?([^/]*?)\]?:(\d+)\z};
	my $fh = $tcp ? IO::Socket::INET->new(PeerAddr => $1 || '127.0.0.1', PeerPort => $2)
	    : IO::Socket::UNIX->new(Peer => $addr);
	return $o{try} ? undef : croak "connect $addr: $!" if !$fh;
	return bless { fh => $fh, reader => FastCGI::Reader->new, records => [], stdout => '', stderr => '' }, $class;
}

# Send bytes; "chunk" of them per write, so that any split can be tried.  False when the peer has closed.
sub send {
	my ($self, $bytes, %o) = @_;
	local $SIG{PIPE} = 'IGNORE';
	for my $part (unpack '(a' . ($o{chunk} // (length($bytes) || 1)) . ')*', $bytes) {
		while (length $part) {
			my $n = syswrite $self->{fh}, $part;
			return 0 if !defined $n;
			substr $part, 0, $n, '';
		}
	}
	return $self;
}

sub request {
	my ($self, %o) = @_;
	$self->{asked} = $o{env} || $o{role} ? undef : { method => $o{method} // 'GET', path => $o{path} // '/' };
	return $self->send(fcgi_request(%o), chunk => $o{chunk});
}
sub shut_write { my ($self) = @_; shutdown $self->{fh}, 1; return $self }
sub close { my ($self) = @_; CORE::close delete $self->{fh} if $self->{fh}; return $self }

# Read until cond is true, the peer closes or the deadline passes.  True when cond was.
sub read_until {
	my ($self, $cond, $within) = @_;
	my $end = time + ($within // 10);
	until ($cond->()) {
		return 0 if $self->{closed} || !$self->{fh};
		my $left = $end - time;
		return 0 if $left <= 0 || !IO::Select->new($self->{fh})->can_read($left);
		my $n = sysread $self->{fh}, my $bytes, 65536;
		if (!$n) {
			$self->{closed} = defined $n ? 'eof' : "$!";
			return $cond->();
		}
		for my $r ($self->{reader}->feed($bytes)) {
			push @{$self->{records}}, $r;
			$self->{stdout} .= $r->{content} if $r->{type} == FCGI_STDOUT;
			$self->{stderr} .= $r->{content} if $r->{type} == FCGI_STDERR;
			@$self{qw(app_status protocol_status)} = unpack 'NC', $r->{content} if $r->{type} == FCGI_END_REQUEST;
		}
	}
	return 1;
}

# The whole answer: {status, headers, body, protocol_status (undef without END_REQUEST), closed, stderr}.
sub answer {
	my ($self, $within) = @_;
	$self->read_until(sub { defined $self->{protocol_status} }, $within);
	my $answer = fcgi_cgi_answer($self->{stdout}) // {};
	Answers::record(kind => 'answer', test => $0, %{$self->{asked}}, %$answer) if $self->{asked} && $answer->{headers} && defined $self->{protocol_status}
	    && ($answer->{headers}{'content-type'} // '') !~ m{^text/event-stream};
	return { %$answer, map { $_ => $self->{$_} } qw(protocol_status closed stderr) };
}

# True when the peer closes within the time.
sub closes { my ($self, $within) = @_; $self->read_until(sub { 0 }, $within); return defined $self->{closed} }

package FastCGI::Reader;

sub new { return bless { buf => '' }, shift }

# Bytes in, complete records out: {version, type, id, content}.
sub feed {
	my ($self, $bytes) = @_;
	my @records;
	$self->{buf} .= $bytes;
	while (length $self->{buf} >= 8) {
		my ($version, $type, $id, $len, $pad) = unpack 'CCnnC', $self->{buf};
		last if length $self->{buf} < 8 + $len + $pad;
		push @records, { version => $version, type => $type, id => $id, content => substr $self->{buf}, 8, $len };
		substr $self->{buf}, 0, 8 + $len + $pad, '';
	}
	return @records;
}

1;
