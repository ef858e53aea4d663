#!/usr/bin/env perl
# README's "Install and deploy", word for word, on a bare Debian 12 (debootstrap, systemd-nspawn): from the release archive to a stream in
# curl, and away again with nothing left.
use strict; use warnings; use Cwd qw(abs_path); use File::Temp qw(tempdir); use FindBin; use lib "$FindBin::Bin/../lib"; use Stage; use Test::More; use Time::HiRes qw(time sleep);

plan(skip_all => 'a container needs root') if $>;
sub have { my ($name) = @_; return (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin')[0] }
my ($debootstrap, $nspawn, $nsenter) = map { have($_) // plan(skip_all => "$_ is not installed (Debian: debootstrap, systemd-container, util-linux)") } qw(debootstrap systemd-nspawn nsenter);
my $mirror = $ENV{SEATCAST_MIRROR} // 'http://deb.debian.org/debian';	# SEATCAST_DEBIAN: a directory that debootstrap has filled already
my $src = abs_path($ENV{top_srcdir} // "$FindBin::Bin/../..");
my $build = abs_path($ENV{top_builddir} // "$src/build");
my $tmp = tempdir('bare-debian-XXXXXX', DIR => $ENV{TMPDIR} // '/tmp');
my $root = "$tmp/root";
my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my ($owner, $container, $init) = ($$);

END {
	my $status = $?;
	if ($tmp && $owner == $$) {
		end_container();
		system('rm', '-rf', '--one-file-system', $tmp);
	}
	$? = $status;
}
$SIG{$_} = sub { exit 130 } for qw(INT TERM HUP);

# Status and output of a command.
sub run { my (@command) = @_; open my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1 </dev/null', 'sh', @command or die "sh: $!"; my $text = join '', readline $out; close $out; return ($?, $text) }
sub must_run { my (@command) = @_; my ($status, $text) = run(@command); die "@command: $status\n" . substr($text, -3000) . "\n" if $status; return $text }

# ---- README's lines ----

my ($section) = Stage::slurp("$src/README") =~ /^Install and deploy\n(.*?)^Where to read on$/ms or die 'README has no "Install and deploy"';
my @lines = map { s/\s*\\\n\s*/ /gr } $section =~ /^ {4}((?:[^\n]*\\\n)*[^\n]+)$/mg;
my ($away) = grep { $lines[$_] =~ /disable --now/ } 0 .. $#lines;
my @fetch = grep { /^apt-get / } @lines[0 .. $away - 1];
my @install = grep { !/^apt-get / } @lines[0 .. $away - 1];
my @remove = @lines[$away .. $#lines];
cmp_ok(scalar @install, '>', 15, @lines . ' lines');

# ---- a bare Debian ----

if (my $ready = $ENV{SEATCAST_DEBIAN}) {
	must_run('cp', '-a', '--reflink=auto', $ready, $root);
} else {
	my ($status, $text) = run($debootstrap, 'bookworm', $root, $mirror);
	plan(skip_all => "no Debian to be had from $mirror: " . ($text =~ /^E: (.*)/m ? $1 : "status $status")) if $status;
}
must_run('make', '-s', '-C', $build, 'dist');
my ($archive) = glob "$build/seatcast-*.tar.xz";
must_run('tar', '-xf', $archive, '-C', "$root/usr/local/src");
my ($tree) = glob "$root/usr/local/src/seatcast-*";
my $where = substr $tree, length $root;
unlink glob "$build/seatcast-*.tar.xz";

# Packages come over this machine's network, before it boots, with nothing started; the rest in there, with a network of its own.
my $policy = "$root/usr/sbin/policy-rc.d";
open my $fh, '>', $policy or die "$policy: $!";
print $fh "#!/bin/sh\nexit 101\n";
close $fh;
chmod 0755, $policy;
my @flags = ('-q', '--register=no', '--link-journal=no', (-d '/run/systemd/system' ? () : '--keep-unit'), '-D', $root, "--machine=seatcast-install-$$");
for (@fetch) {
	my ($status, $text) = run($nspawn, @flags, '--pipe', '-E', 'DEBIAN_FRONTEND=noninteractive', '--', 'bash', '-c', $_);
	if ($status) {
		SKIP: { skip "no container here, or no packages: $_: " . substr($text, -1500) =~ s/\s+/ /gr, 1 }
		done_testing;
		exit;
	}
	pass($_);
}
unlink $policy;

# ---- it boots ----

open my $log, '>', "$tmp/console" or die;
$container = fork // die "fork: $!";
if (!$container) {
	setpgrp;
	open STDIN, '<', '/dev/null';
	open STDOUT, '>&', $log;
	open STDERR, '>&', $log;
	exec $nspawn, @flags, '-b', '--private-network', '--console=pipe';
	exit 127;
}
sub children { my ($of) = @_; return map { $_->[0] } grep { $_->[1] == $of } Stage::processes() }
sub in_there { my (@command) = @_; return run($nsenter, '-t', $init, '-a', 'env', '-i', 'HOME=/root', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', @command) }
sub end_container {
	return if !$container;
	kill 'TERM', $init // $container;		# systemd in a container: SIGTERM re-executes; SIGRTMIN+3 halts
	kill 37, $init if $init;
	my $end = time + 30;
	while (waitpid($container, 1) == 0) { kill 'KILL', $container if time > $end; sleep 0.1 }
	undef $container;
	rmdir "/run/systemd/nspawn/$_/seatcast-install-$$" for qw(propagate unix-export);
}
my $up;
for (my $end = time + 90 * $slow; time < $end && !$up; sleep 0.5) {
	($init) = children($container);
	$up = $init && (in_there('systemctl', 'is-system-running'))[1] =~ /running|degraded/;
	last if waitpid($container, 1) == $container;
}
if (!$up) {
	SKIP: { skip 'no container boots here: ' . Stage::slurp("$tmp/console") =~ s/\s+/ /gr, 1 }
	done_testing;
	exit;
}

# A line as it stands, in a shell at the top of the source.  curl -N has no end of its own.
sub line {
	my ($line) = @_;
	my $bounded = $line =~ /^curl -N / ? "timeout 5 $line || [ \$? = 124 ]" : $line;
	# The server has just been told to start: a person's fingers take longer than it does.
	if ($line =~ /^curl /) { for (1 .. 50) { last if !(in_there('bash', '-c', '>/dev/tcp/localhost/80'))[0]; sleep 0.2 } }
	my ($status, $text) = in_there('bash', '-ec', "cd $where && $bounded");
	is($status, 0, $line) or diag(substr $text, -3000);
	return $text;
}
my %said = map { $_ => line($_) } @install;
my ($check) = map { $said{$_} } grep { /--check$/ } @install;
like($check, qr/^ok: ready to serve$/m, 'the check ends well');
unlike($check, qr/^(?:error|warning): (?!.*somaxconn)/m, '… without a word of complaint') or diag $check;
my ($ready, $stream) = map { my $what = $_; map { $said{$_} } grep { /\Q$what\E/ } @install } '/readyz', 'status-stream';
like($ready, qr/ready\z/, 'ready');
like($stream, qr/^event: init\ndata: \{"status":200.*"status":"AVAILABLE"/m, 'the stream begins with all seats');
like((in_there('curl', '-s', 'http://localhost/'))[1], qr/<title>[^<]*/, 'the page is there');
like((in_there(qw(curl -s -H Content-Type:application/json -d {"userId":7} http://localhost/api/matches/1/allocation/seats/101/hold)))[1], qr/"seatId":101,"status":"HOLD"/, 'a seat can be held, from this machine');
like((in_there('runuser', '-u', 'nobody', '--', 'cat', '/run/seatcast/fcgi.sock'))[1], qr/denied|No such device/, 'nobody else may use the socket');
is((in_there('systemctl', 'is-active', 'seatcast.service'))[1], "active\n", 'the service runs');
like((in_there('journalctl', '-b', '-o', 'cat', '-u', 'seatcast.service'))[1], qr/check: (?:all is well|--check finds 0 errors)/, 'and has said at its start how it is');

# ---- and away ----

line($_) for @remove;
is((in_there('sh', '-c', 'find / -xdev -iname "*seatcast*" ! -path "/proc/*" ! -path "/usr/local/src/*" ! -path "/var/log/*" ! -path "/tmp/*" ! -path "/var/tmp/*" ! -path "/run/*" ! -path "/var/lib/systemd/*" ! -path "/sys/*"'))[1], '', 'nothing of it is left');
unlike((in_there('sh', '-c', 'ps ax'))[1], qr/seatcast:/, 'nor does it run') if -x "$root/bin/ps";
end_container();
done_testing;
