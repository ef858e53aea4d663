# SPDX-License-Identifier: ISC
package Container;

# A bare Debian 12 of one's own (debootstrap), which boots (systemd-nspawn) with a network of its own, and ends with the test.
#
# Packages come before it boots, over this machine's network and with nothing started.  What can't be had here (root,
# the tools, a mirror, a container that boots) is a reason to skip: new and boot die with a sentence then.
# SEATCAST_DEBIAN: a directory that debootstrap has filled already.  SEATCAST_MIRROR: another mirror.

use v5.32;
use warnings;
use File::Temp qw(tempdir);
use Time::HiRes qw(time sleep);
use Stage;

my @all;
my $MIRROR = $ENV{SEATCAST_MIRROR} // 'http://deb.debian.org/debian';

sub tool { my ($name) = @_; return (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin')[0] }

# Wait status and output of a command.
sub command {
	my (@command) = @_;
	open my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1 </dev/null', 'sh', @command or die "sh: $!";
	my $text = join '', readline $out;
	close $out;
	return ($?, $text);
}
sub must { my (@command) = @_; my ($status, $text) = command(@command); die "@command: $status\n" . substr($text, -3000) . "\n" if $status; return $text }

sub new {
	my ($class) = @_;
	die "a container needs root\n" if $>;
	my %tool = map { $_ => tool($_) // die "$_ is not installed (Debian: debootstrap, systemd-container, util-linux)\n" } qw(debootstrap systemd-nspawn nsenter);
	my $dir = tempdir('bare-debian-XXXXXX', DIR => $ENV{TMPDIR} // '/tmp');
	my $self = bless { dir => $dir, root => "$dir/root", owner => $$, tool => \%tool, name => "seatcast-bare-$$" }, $class;
	push @all, $self;
	$SIG{$_} //= sub { exit 130 } for qw(INT TERM HUP);
	if (my $ready = $ENV{SEATCAST_DEBIAN}) {
		must('cp', '-a', '--reflink=auto', $ready, $self->{root});
	} else {
		my ($status, $text) = command($tool{debootstrap}, 'bookworm', $self->{root}, $MIRROR);
		die "no Debian to be had from $MIRROR: " . ($text =~ /^E: (.*)/m ? $1 : "status $status") . "\n" if $status;
	}
	$self->{flags} = ['-q', '--register=no', '--link-journal=no', (-d '/run/systemd/system' ? () : '--keep-unit'), '-D', $self->{root}, "--machine=$self->{name}"];
	return $self;
}

# A shell command before it boots, for packages.
sub before {
	my ($self, $line) = @_;
	my $policy = "$self->{root}/usr/sbin/policy-rc.d";
	open my $fh, '>', $policy or die "$policy: $!";
	print $fh "#!/bin/sh\nexit 101\n";
	close $fh;
	chmod 0755, $policy;
	my @result = command($self->{tool}{'systemd-nspawn'}, @{$self->{flags}}, '--pipe', '-E', 'DEBIAN_FRONTEND=noninteractive', '--', 'bash', '-c', $line);
	unlink $policy;
	return @result;
}

sub boot {
	my ($self) = @_;
	my $slow = $ENV{SEATCAST_PATIENCE} // 1;
	open my $log, '>', "$self->{dir}/console" or die "console: $!";
	$self->{pid} = fork // die "fork: $!";
	if (!$self->{pid}) {
		setpgrp;
		open STDIN, '<', '/dev/null';
		open STDOUT, '>&', $log;
		open STDERR, '>&', $log;
		exec $self->{tool}{'systemd-nspawn'}, @{$self->{flags}}, '-b', '--private-network', '--console=pipe';
		exit 127;
	}
	for (my $end = time + 90 * $slow; time < $end; sleep 0.5) {
		($self->{init}) = map { $_->[0] } grep { $_->[1] == $self->{pid} } Stage::processes();
		return $self if $self->{init} && ($self->run('systemctl', 'is-system-running'))[1] =~ /running|degraded/;
		if (waitpid($self->{pid}, 1) == $self->{pid}) { undef $self->{pid}; last }
	}
	die 'no container boots here: ' . Stage::slurp("$self->{dir}/console") =~ s/\s+/ /gr . "\n";
}

# A command in there: wait status and output.
sub run {
	my ($self, @command) = @_;
	return command($self->{tool}{nsenter}, '-t', $self->{init}, '-a', 'env', '-i', 'HOME=/root', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', @command);
}

sub end {
	my ($self) = @_;
	if (my $pid = delete $self->{pid}) {
		kill 37, $self->{init} if $self->{init};	# SIGRTMIN+3: halt
		my $end = time + 30;
		while (waitpid($pid, 1) == 0) { kill 'KILL', $pid if time > $end; sleep 0.1 }
		rmdir "/run/systemd/nspawn/$_/$self->{name}" for qw(propagate unix-export);
	}
	system('rm', '-rf', '--one-file-system', $self->{dir}) if -d $self->{dir};
	return;
}

END {
	my $status = $?;
	local $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
	$_->end for grep { $_->{owner} == $$ } @all;
	$? = $status;
}

1;
