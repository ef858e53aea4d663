# SPDX-License-Identifier: ISC
package Stage;

# The private surroundings of one seatcast: a directory of its own under /tmp, and in
# it a PostgreSQL, a lighttpd (from lighttpd.conf.sample) and the seatcast itself.
#
# Nothing outside the directory is touched, everything is started as our own child
# and stopped by its pid, also when the script dies or is interrupted.  As root,
# PostgreSQL runs as another user; the rest runs as whoever we are.
# Used by Scenario.pm (tests) and by quickstart: knows nothing of TAP.  Waiting is
# always for a condition with a deadline; $stage->{tick} is what is done meanwhile.

use v5.32;
use warnings;
use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(WNOHANG setpgid setuid setgid);
use Time::HiRes qw(time sleep);
use FastCGI;
use Session;

our $PATIENCE = 15 * ($ENV{SEATCAST_PATIENCE} // 1);	# seconds; a factor for slow machines
my %stages;						# those whose processes may live

delete @ENV{grep { /^PG/ } keys %ENV};			# libpq's variables would lead elsewhere

sub new {
	my ($class, %o) = @_;
	my $src = abs_path($ENV{top_srcdir} // dirname(__FILE__) . '/../..');
	my $self = bless {
		src => $src, build => abs_path($ENV{top_builddir} // "$src/build"), owner => $$, port_try => 0,
		tick => sub { sleep 0.01 }, proc => {}, sessions => [], pg_conf => $o{pg} // {}, failures => [],
	}, $class;
	my $tmp = $ENV{TMPDIR} && length $ENV{TMPDIR} < 50 ? $ENV{TMPDIR} : '/tmp';	# socket paths end at 107 bytes
	$self->{dir} = tempdir('seatcast-XXXXXX', DIR => $tmp);
	chmod 0755, $self->{dir} or die "chmod $self->{dir}: $!";
	mkdir "$self->{dir}/$_" for qw(log web);
	$stages{$self->{dir}} = $self;
	for my $sig (qw(INT TERM HUP)) {
		$SIG{$sig} = sub {	# END does the rest, and an impatient second Ctrl-C does not stop it
			@SIG{qw(INT TERM HUP)} = ('IGNORE') x 3;
			exit 128 + { INT => 2, TERM => 15, HUP => 1 }->{$sig};
		};
	}
	return $self;
}

sub dir { return $_[0]{dir} }
sub log_path { my ($self, $name) = @_; return "$self->{dir}/log/$name.log" }
sub log_text { my ($self, $name) = @_; return slurp($self->log_path($name)) }
sub pid { my ($self, $name) = @_; return $self->{proc}{$name} && $self->{proc}{$name}{pid} }

sub slurp {
	my ($path) = @_;
	open my $fh, '<:raw', $path or return '';
	local $/;
	return readline($fh) // '';
}

# Wait until cond is true; what it returned, or undef when the time is over.
sub wait_until {
	my ($self, $cond, $within) = @_;
	my $end = time + ($within // $PATIENCE);
	while (1) {
		my $result = $cond->();
		return $result if $result;
		return undef if time > $end;
		$self->{tick}->();
	}
}

# ---- processes ----

# Start a child under a name: its output goes to log/NAME.log.  Options: user, env, stdin.
sub spawn {
	my ($self, $name, $cmd, %o) = @_;
	state $setpriv = (grep { -x } '/usr/bin/setpriv', '/bin/setpriv')[0];
	my @cmd = ($setpriv ? ($setpriv, '--pdeathsig', 'TERM', '--') : (), @$cmd);	# should we be killed
	open my $log, '>>', $self->log_path($name) or die "$name.log: $!";
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		eval {
			setpgid(0, 0);		# a Ctrl-C is ours to handle, and what it leaves behind can be found
			$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE CHLD);
			chdir $self->{dir};
			open STDIN, '<', $o{stdin} // '/dev/null' or die "stdin: $!\n";
			open STDOUT, '>&', $log and open STDERR, '>&', $log or die "log: $!\n";
			become($o{user}) if defined $o{user};
			$ENV{$_} = $o{env}{$_} for keys %{$o{env} // {}};
			exec { $cmd[0] } @cmd;
		};
		print STDERR "cannot start $cmd->[0]: ", $@ || "$!\n";
		POSIX::_exit(127);
	}
	$self->{proc}{$name} = { pid => $pid, log => $self->log_path($name) };
	return $pid;
}

sub become {
	my ($user) = @_;
	my ($uid, $gid) = (getpwnam $user)[2, 3];
	$) = "$gid $gid";
	setgid($gid) && setuid($uid) or die "cannot become $user: $!\n";
}

# Has the child ended?  Its wait status is then in {status}.
sub ended {
	my ($self, $name) = @_;
	my $p = $self->{proc}{$name} or return 1;
	$p->{status} = $? if !defined $p->{status} && waitpid($p->{pid}, WNOHANG) == $p->{pid};
	return defined $p->{status};
}

sub wait_end {
	my ($self, $name, $within) = @_;
	return $self->wait_until(sub { $self->ended($name) }, $within) ? $self->{proc}{$name}{status} : undef;
}

# Stop a child: signal, wait, KILL as the last resort (which is noted as a failure).  Its wait status; undef: was not running.
sub stop {
	my ($self, $name, $signal, $within) = @_;
	return undef if !$self->{proc}{$name};
	if (!$self->ended($name)) {
		kill $signal // 'TERM', $self->pid($name);
		if (!defined $self->wait_end($name, $within)) {
			push @{$self->{failures}}, "$name did not end on SIG" . ($signal // 'TERM');
			kill 'KILL', $self->members($name), $self->pid($name);
			$self->wait_end($name, 10);
		}
	}
	my $gone = delete $self->{proc}{$name};
	$self->{last_group} = $gone->{pid};
	return $gone->{status};
}

# Everything in /proc: [pid, parent, process group, title].
sub processes {
	my @found;
	for my $pid (map { m{(\d+)} } glob '/proc/[0-9]*') {
		my ($state, $parent, $group) = slurp("/proc/$pid/stat") =~ /.*\) (\S) (\d+) (\d+)/s or next;
		push @found, [$pid, $parent, $group, slurp("/proc/$pid/cmdline") =~ tr/\0/ /r] if $state !~ /[ZX]/;
	}
	return @found;
}

# The pids that belong to a child by parentage or process group; the child itself aside.
sub members {
	my ($self, $name) = @_;
	my $top = $self->pid($name) // return ();
	my %in = ($top => 1);
	my @all = processes();
	for (1 .. 3) { $_->[2] == $top || $in{$_->[1]} and $in{$_->[0]} = 1 for @all }
	delete $in{$top};
	my @found = sort { $a <=> $b } keys %in;
	return @found;
}

# ---- PostgreSQL ----

sub pg_bin {
	my ($self, $tool) = @_;
	$self->{bin} //= (grep { -x "$_/initdb" } $ENV{PG_BINDIR} // (), split(/:/, $ENV{PATH}),
		sort { ($b =~ /(\d+)/)[0] <=> ($a =~ /(\d+)/)[0] } glob '/usr/lib/postgresql/*/bin')[0]
	    // die "no PostgreSQL server found: is initdb in PATH or in PG_BINDIR?\n";
	return dirname(abs_path("$self->{bin}/initdb")) . "/$tool";
}

# The libpq connection string; what is given replaces: pg_conninfo(user => 'postgres').
sub pg_conninfo {
	my ($self, %o) = @_;
	my %c = (host => "$self->{dir}/pg", port => $self->{pg_port}, dbname => 'seatcast', user => 'postgres', %o);
	return join ' ', map { "$_=$c{$_}" } sort keys %c;
}

# The same for seatcast with SEATCAST_PGBOUNCER=1: by way of a PgBouncer.
sub pooled { my ($self) = @_; require Deploy; return $self->{pooled} //= Deploy::start_pgbouncer($self) }

sub pg_init {
	my ($self) = @_;
	my $user = $> == 0 ? (grep { getpwnam $_ } qw(postgres nobody daemon))[0] : undef;
	$self->{pg_user} = $user;
	$self->{pg_port} = $self->{pg_conf}{listen_addresses} ? $self->free_port : 5432;
	for my $d (map { "$self->{dir}/$_" } qw(data pg)) {
		mkdir $d, 0700 or die "$d: $!";
		chown +(getpwnam $user)[2, 3], $d if defined $user;
	}
	$self->spawn('initdb', [$self->pg_bin('initdb'), qw(-A trust -U postgres -E UTF8 --locale=C --no-sync),
		qw(--wal-segsize=1 -D), "$self->{dir}/data"], user => $user);
	my $status = $self->wait_end('initdb', 60);
	die "initdb failed:\n" . $self->log_text('initdb') if !defined $status || $status;
	delete $self->{proc}{initdb};
}

# Start (again).  Settings given are kept for later starts.
sub pg_start {
	my ($self, %settings) = @_;
	$self->pg_init if !-d "$self->{dir}/data";
	my %c = (
		listen_addresses => '', port => $self->{pg_port}, unix_socket_directories => "$self->{dir}/pg",
		unix_socket_permissions => '0700', fsync => 'off', synchronous_commit => 'off', full_page_writes => 'off',
		shared_buffers => '32MB', max_connections => 200, max_prepared_transactions => 20, max_wal_size => '64MB',
		log_line_prefix => '%m [%p] %a ', logging_collector => 'off', %{$self->{pg_conf}}, %settings,
	);
	$self->{pg_conf} = { %{$self->{pg_conf}}, %settings };
	my @command = ($self->pg_bin('postgres'), '-D', "$self->{dir}/data", map { ('-c', "$_=$c{$_}") } sort keys %c);
	my $up = $self->wait_until(sub {	# after a crash the old one's backends may still hold the shared memory
		$self->spawn('postgresql', \@command, user => $self->{pg_user})
		    if !$self->{proc}{postgresql} || $self->ended('postgresql');
		my @line = split /\n/, slurp("$self->{dir}/data/postmaster.pid");
		return @line > 7 && $line[0] == $self->pid('postgresql') && $line[7] =~ /^ready/;
	}, 60);
	die "PostgreSQL does not start:\n" . $self->log_text('postgresql') if !$up;
	return $self;
}

# Modes: smart, fast, immediate.
sub pg_stop {
	my ($self, $mode) = @_;
	$self->hang_up;
	return $self->stop('postgresql', { smart => 'TERM', fast => 'INT', immediate => 'QUIT' }->{$mode // 'fast'}, 60);
}

# All of it at once, as when the machine dies.
sub pg_kill { my ($self) = @_; $self->pg_signal('KILL'); $self->wait_end('postgresql'); return $self->pg_stop }
sub pg_freeze { my ($self) = @_; $self->pg_signal('STOP'); $self->{frozen} = 1; return $self }
sub pg_thaw { my ($self) = @_; $self->pg_signal('CONT'); $self->{frozen} = 0; return $self }
sub pg_signal {
	my ($self, $signal) = @_;
	my @children = $self->members('postgresql');
	kill $signal, $self->pid('postgresql'), @children;
	return $self;
}

# A session of one's own: see Session.pm.  Options replace parts of the conninfo.
sub session {
	my ($self, %o) = @_;
	my $s = Session->new($self->pg_bin('psql'), $self->pg_conninfo(%o), sub { $self->wait_until(@_) });
	push @{$self->{sessions}}, $s;
	return $s;
}

sub hang_up { my ($self) = @_; $_->kill for splice @{$self->{sessions}}; delete $self->{main}; return }

# Rows of one or more statements, each a reference to its columns; dies on an error.  One session for all calls.
sub sql {
	my ($self, $sql, $within) = @_;
	$self->{main} = $self->session if !$self->{main} || !$self->{main}->alive;
	return $self->{main}->query($sql, $within);
}

# Run a file of sql/ in a psql of our own, which can read what the server's user may not.
sub sql_file {
	my ($self, $file) = @_;
	$self->spawn('psql', [$self->pg_bin('psql'), qw(-X -q -v ON_ERROR_STOP=1 -d), $self->pg_conninfo,
		'-f', "$self->{src}/sql/$file"]);
	my $status = $self->wait_end('psql', 120);
	die "psql -f sql/$file failed:\n" . $self->log_text('psql') if !defined $status || $status;
	delete $self->{proc}{psql};
}

# The database of a test: tables, functions, roles.
# demo => 1 loads the stadium; else match 1 with blocks 101 (seats 101, 102, … as many as asked) and 102 (from 1000001).
sub pg_install {
	my ($self, %o) = @_;
	my $admin = $self->session(dbname => 'postgres');
	$admin->query('CREATE DATABASE seatcast; ALTER ROLE postgres SET log_statement = none');	# a log for what seatcast asks
	$self->sql_file('install.sql');
	return $self->sql_file('demo.sql') if $o{demo};
	my $n = $o{seats} // 20;
	$self->sql(<<~SQL);
		INSERT INTO matches (id, name) VALUES (1, 'Test match');
		INSERT INTO areas (id, name) VALUES (1, 'North');
		INSERT INTO sections (id, area_id, name) VALUES (1, 1, 'Lower');
		INSERT INTO blocks (id, section_id, name) VALUES (101, 1, '101'), (102, 1, '102');
		INSERT INTO seats (id, block_id, row_number, seat_number)
			SELECT b.first + i, b.id, 1 + i / 20, 1 + i % 20
			  FROM (VALUES (101, 101), (102, 1000001)) AS b(id, first), generate_series(0, $n - 1) AS i;
		SQL
	return;
}

# ---- seatcast and lighttpd ----

# Options are seatcast's, "-" or "_": poll_interval => '1s'; undef leaves one out.  Environment in env => {}.
# Waits until it answers /healthz (wait => 0: does not wait).
sub start_seatcast {
	my ($self, %o) = @_;
	my ($env, $wait) = (delete $o{env} // {}, delete $o{wait} // 1);
	my %opt = (listen => "$self->{dir}/fcgi.sock", database => $ENV{SEATCAST_PGBOUNCER} ? $self->pooled : $self->pg_conninfo(user => 'seatcast_writer'),
		map { tr/_/-/r => $o{$_} } keys %o);
	$self->{listen} = $opt{listen};
	my $binary = $ENV{SEATCAST} // "$self->{build}/src/seatcast";
	my @wrap = split ' ', $ENV{SEATCAST_WRAP} // '';
	$self->spawn('seatcast', [@wrap, abs_path($binary) // $binary,
		map { defined $opt{$_} ? ("--$_", $opt{$_}) : () } sort keys %opt],
		env => { ASAN_OPTIONS => 'detect_leaks=1', UBSAN_OPTIONS => 'print_stacktrace=1', %$env });
	my $up = !$wait || $self->wait_until(sub {
		return 1 if $self->ended('seatcast');
		my $c = FastCGI->connect($self->{listen}, try => 1) or return 0;
		$c->request(path => '/healthz');
		return ($c->answer(2)->{status} // 0) == 200;
	});
	die "seatcast does not start:\n" . $self->log_text('seatcast') if !$up || $wait && $self->ended('seatcast');
	return $self;
}

sub stop_seatcast { my ($self, $signal, $within) = @_; return $self->stop('seatcast', $signal, $within) }

sub free_port {
	my ($self) = @_;
	while ($self->{port_try} < 64) {		# neighbouring pids get different ports
		my $port = 10000 + ($$ * 64 + $self->{port_try}++) % 20000;
		return $port if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1);
	}
	die "no free port found\n";
}

# lighttpd with the sample configuration; port, bind: where it listens; append => text to add to it, edit => sub that changes it in $_, web_dir => another page.
sub start_lighttpd {
	my ($self, %o) = @_;
	my $lighttpd = (grep { -x } map { "$_/lighttpd" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin')[0]
	    // die "lighttpd not found\n";
	my ($most) = slurp('/proc/self/limits') =~ /^Max open files\s+\d+\s+(\d+)/m;
	my $fds = !$most || $most > 32768 ? 32768 : $most;
	my $sample = slurp("$self->{src}/lighttpd.conf.sample") || die "lighttpd.conf.sample: $!\n";
	for (1 .. 5) {				# somebody may take the port before lighttpd does
		my $conf = $sample;
		$self->{port} = $o{port} // $self->free_port;
		my %var = (bind => '"' . ($o{bind} // '127.0.0.1') . '"', port => $self->{port}, web_dir => '"' . ($o{web_dir} // "$self->{src}/web") . '"',
			socket => qq("$self->{dir}/fcgi.sock"), log_dir => qq("$self->{dir}/log"), max_fds => $fds,
			max_conns => int($fds / 2));
		for my $name (sort keys %var) {
			$conf =~ s/^(var\.$name\s*=\s*)[^#\n]*/$1$var{$name} /m or die "lighttpd.conf.sample: no var.$name\n";
		}
		$conf =~ s/^server\.(?:user|group)name.*\n//mg;
		if ($o{edit}) { $o{edit}->() for $conf }
		open my $fh, '>', "$self->{dir}/lighttpd.conf" or die "lighttpd.conf: $!";
		print $fh $conf, $o{append} // '';
		close $fh or die "lighttpd.conf: $!";
		unlink $self->log_path('error');
		$self->spawn('lighttpd', [$lighttpd, '-D', '-f', "$self->{dir}/lighttpd.conf"]);
		return $self if $self->wait_until(sub { $self->log_text('error') =~ /server started/ || $self->ended('lighttpd') })
		    && !$self->ended('lighttpd');
		$self->stop('lighttpd');
	}
	die "lighttpd does not start:\n" . $self->log_text('lighttpd') . $self->log_text('error');
}

sub stop_lighttpd { my ($self, $signal) = @_; return $self->stop('lighttpd', $signal) }
sub url { my ($self, $path) = @_; return "http://127.0.0.1:$self->{port}" . ($path // '/') }

# ---- the end ----

# Stop everything and remove the directory (keep => 1 leaves it).  What went wrong, as a list of sentences.
sub strike {
	my ($self) = @_;
	return @{$self->{failures}} if $$ != $self->{owner} || !delete $stages{$self->{dir}};
	$self->{tick} = sub { sleep 0.01 };
	$self->pg_thaw if $self->{frozen};
	$self->stop_seatcast;
	$self->stop_lighttpd;
	$self->pg_stop('immediate');
	$self->stop($_, 'KILL') for keys %{$self->{proc}};
	remove_tree($self->{dir}) if !$self->{keep} && !$ENV{SEATCAST_KEEP};
	return @{$self->{failures}};
}

END {
	my $status = $?;
	local $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);	# an impatient second Ctrl-C
	eval { $_->strike; 1 } or warn $@ for grep { $_->{owner} == $$ } values %stages;
	$? = $status;
}

1;
