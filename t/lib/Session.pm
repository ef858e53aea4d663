# SPDX-License-Identifier: ISC
package Session;

# One conversation with PostgreSQL through a psql that stays: for tests that need
# several at once, say one that holds a transaction open while another looks.
#
# query sends and waits; send and result are the two halves, for a statement that is
# expected to block.  The psql is our child; kill ends it (the server rolls back).

use v5.32;
use warnings;
use Carp qw(croak);
use IPC::Open3 qw(open3);
use Symbol qw(gensym);

use constant { FIELD => "\x1f", NULL => "\x02", MARK => "\x03end" };

# wait: how to wait for a condition (a Stage's wait_until).
sub new {
	my ($class, $psql, $conninfo, $wait) = @_;
	my $self = bless { wait => $wait, err => gensym, stdout => '', stderr => '', pending => 0 }, $class;
	$self->{pid} = open3($self->{in}, $self->{out}, $self->{err}, $psql, qw(-X -q -A -t -0 -F), FIELD,
		'-P', 'null=' . NULL, '-d', $conninfo);
	$_->blocking(0) for @$self{qw(out err)};
	binmode $self->{in}, ':raw';
	return $self;
}

sub read_some {
	my ($self) = @_;
	for my $which (qw(out err)) {
		my $to = "std$which";
		while (1) {
			my $n = sysread $self->{$which}, $self->{$to}, 65536, length $self->{$to};
			$self->{lost} = 1 if defined $n && $n == 0;
			last if !$n;
		}
	}
	return;
}

sub alive { my ($self) = @_; $self->read_some if $self->{pid}; return $self->{pid} && !$self->{lost} }

# Send statements without waiting for them.  Meta-commands of psql work too, on lines of their own.
sub send {
	my ($self, $sql) = @_;
	croak 'session is closed' if !$self->{pid};
	local $SIG{PIPE} = 'IGNORE';
	utf8::encode($sql) if utf8::is_utf8($sql);
	$sql .= "\n;" if $sql !~ /;\s*\z/;
	my $out = "$sql\n\\echo " . MARK . "\n\\warn " . MARK . "\n";
	while (length $out) {
		my $n = syswrite $self->{in}, $out;
		croak "psql has gone: $self->{stderr}" if !defined $n;
		substr $out, 0, $n, '';
	}
	$self->{pending}++;
	return $self;
}

# Is the answer to what was sent complete?
sub ready {
	my ($self) = @_;
	$self->read_some;
	my $mark = MARK;
	return $self->{lost} || $self->{stdout} =~ /$mark\n/ && $self->{stderr} =~ /$mark\n/;
}

# The rows of what was sent; dies on an error or when it takes too long.
sub result {
	my ($self, $within) = @_;
	$self->{wait}->(sub { $self->ready }, $within // 30) or croak 'no answer from the database in time';
	my $mark = MARK;
	my $error = $self->{stderr} =~ s/\A(.*?)$mark\n//s ? $1 : $self->{stderr};
	croak "connection to the database lost: $error" if $self->{lost};
	$self->{stdout} =~ s/\A(.*?)$mark\n//s;
	my $rows = $1;
	$self->{pending}--;
	$self->{lost} = 1 if $error =~ /^server closed the connection/m;	# psql notices with the next statement only
	croak $error =~ s/\s+\z//r if $error =~ /^(?:psql:\S+ )?(?:ERROR|FATAL|PANIC):/m || $self->{lost};
	return map { [map { $_ eq NULL ? undef : $_ } length ? split(FIELD, $_, -1) : ""] } $rows =~ /([^\0]*)\0/g;
}

sub query { my ($self, $sql, $within) = @_; return $self->send($sql)->result($within) }

# The first column of the first row.
sub value { my ($self, $sql, $within) = @_; my ($row) = $self->query($sql, $within); return $row ? $row->[0] : undef }

# The error's text ('' when there was none).
sub error { my ($self, $sql, $within) = @_; return eval { $self->query($sql, $within); 1 } ? '' : $@ }

sub kill {
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	CORE::kill 'KILL', $pid;
	waitpid $pid, 0;
	close $self->{$_} for qw(in out err);
	return;
}

1;
