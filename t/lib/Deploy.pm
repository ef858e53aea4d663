# SPDX-License-Identifier: ISC
package Deploy;

# The surroundings that sites have: Apache, nginx, PgBouncer, HAProxy, a hot standby, started
# from the sample files in etc/ with what differs between machines replaced, as Stage does
# for lighttpd.
#
# All of them are children of a Stage, by name, in its directory, and end with it.  Ports
# are free ones on loopback.  have() says whether a program is there: tests skip without.

use v5.32;
use warnings;
use Cwd qw(abs_path);
use Exporter qw(import);
use IO::Socket::INET;
use Stage;

our @EXPORT = qw(have start_server stop_server reload_server start_pgbouncer start_standby start_haproxy start_haproxy_fcgi start_varnish start_nginx_cache binary tree memory);

my %path = (apache => 'apache2', nginx => 'nginx', lighttpd => 'lighttpd', 'spawn-fcgi' => 'spawn-fcgi',
	pgbouncer => 'pgbouncer', haproxy => 'haproxy');
my %started;		# stages that have something of ours
my $modules = (grep { -d } qw(/usr/lib/apache2/modules /usr/lib64/httpd/modules))[0];

# The path of a program, undef if it is not installed; mod_fcgid is one too.
sub have {
	my ($what) = @_;
	return $modules && -e "$modules/mod_$1.so" && have('apache') if $what =~ /^mod_(\w+)$/;
	my $name = $path{$what} // $what;
	return (grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin')[0];
}

sub binary { my ($stage) = @_; my $b = $ENV{SEATCAST} // "$stage->{build}/src/seatcast"; return abs_path($b) // $b }

# Who a web server runs as when we are root.
sub web_user { return $> == 0 ? (grep { getpwnam $_ } qw(www-data nobody))[0] : undef }

sub sample {
	my ($stage, $name, %replace) = @_;
	my $text = Stage::slurp("$stage->{src}/$name") || die "$name: $!\n";
	for my $from (sort keys %replace) {
		my $to = $replace{$from};
		$text =~ s/^(\s*)$from.*$/$1$to/mg or die "$name: no line $from\n";
	}
	return $text;
}

sub put {
	my ($stage, $name, $text) = @_;
	open my $fh, '>', "$stage->{dir}/$name" or die "$name: $!\n";
	print $fh $text;
	close $fh or die "$name: $!\n";
	return "$stage->{dir}/$name";
}

sub answers { my ($port) = @_; return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }

# Start a program that listens on a port of its own choice of ours: conf->($port) writes its file, command->($port) is run.
sub on_free_port {
	my ($stage, $name, $conf, $command, %o) = @_;
	for (1 .. 5) {
		my $port = $stage->free_port;
		$conf->($port);
		$stage->spawn($name, $command->($port), %o);
		return $port if $stage->wait_until(sub { $stage->ended($name) || answers($port) }) && !$stage->ended($name);
		$stage->stop($name);
	}
	die "$name does not start:\n" . $stage->log_text($name) . $stage->log_text('error');
}

# ---- web servers ----

# Start one under the name "web": lighttpd, nginx, proxy-fcgi, mod-fcgid.  The stage's port is then that server's.
# proxy-fcgi and mod-fcgid take conf => text after the sample; all take edit => sub that changes the sample in $_.
sub start_server {
	my ($stage, $server, %o) = @_;
	$started{$stage->dir} = $stage;
	return start_apache($stage, $server, %o) if $server =~ /^(?:proxy-fcgi|mod-fcgid)$/;
	return start_nginx($stage, %o) if $server eq 'nginx';
	$stage->start_lighttpd(%o);
	return $stage->{web} = 'lighttpd';
}

sub start_nginx {
	my ($stage, %o) = @_;
	my ($most) = Stage::slurp('/proc/self/limits') =~ /^Max open files\s+\d+\s+(\d+)/m;
	my $fds = !$most || $most > 32768 ? 32768 : $most;
	my $user = web_user();
	my $dir = $stage->{dir};
	mkdir "$dir/nginx";
	chown +(getpwnam $user)[2, 3], "$dir/nginx" if $user;
	my $conf = sub {
		my ($port) = @_;
		my $text = sample($stage, 'etc/nginx.conf', 'user www-data;' => $user ? "user $user;" : '', 'pid /' => "pid $dir/nginx.pid;",
			'error_log ' => "error_log $dir/log/error.log;", worker_rlimit_nofile => "worker_rlimit_nofile $fds;",
			worker_connections => 'worker_connections ' . int($fds / 2) . ';', 'listen 80' => "listen 127.0.0.1:$port backlog=4096;",
			'server unix:' => "server unix:$stage->{listen};", 'root /' => "root $stage->{src}/web;");
		if ($o{edit}) { $o{edit}->() for $text }
		$text =~ s{include fastcgi_params}{include /etc/nginx/fastcgi_params}g;
		$text =~ s/^http \{\n/join '', "http {\n", map { "${_}_temp_path $dir\/nginx\/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi)/me;
		put($stage, 'nginx.conf', $text);
	};
	$stage->{port} = on_free_port($stage, 'web', $conf,
		sub { [have('nginx'), '-p', $dir, '-c', "$dir/nginx.conf", '-g', 'daemon off;'] });
	return $stage->{web} = 'web';
}

sub start_apache {
	my ($stage, $kind, %o) = @_;
	my $user = web_user();
	my $dir = $stage->{dir};
	mkdir "$dir/fcgid";
	chown +(getpwnam $user)[2, 3], "$dir/fcgid" if $user;
	my @load = grep { -e "$modules/mod_$_.so" } qw(mpm_event unixd authz_core authz_host authz_user auth_basic authn_core authn_file alias deflate filter dir mime headers setenvif
		log_config),
		$kind eq 'mod-fcgid' ? 'fcgid' : qw(proxy proxy_fcgi);
	my $conf = sub {
		my ($port) = @_;
		my %define = (port => $port, web => "$stage->{src}/web",
			$kind eq 'mod-fcgid' ? (program => binary($stage), control => $o{control} // "$dir/control.sock",
				database => '"' . ($o{database} // $stage->pg_conninfo(user => 'seatcast_writer')) . '"')
			: (socket => $stage->{listen}));
		my $text = sample($stage, "etc/apache-$kind.conf", map { ("Define seatcast_$_ " => "Define seatcast_$_ $define{$_}") } keys %define);
		if ($o{edit}) { $o{edit}->() for $text }
		put($stage, 'apache.conf', join "\n", "ServerRoot $dir", "PidFile $dir/apache.pid", 'ServerName localhost',
			(map { "LoadModule ${_}_module $modules/mod_$_.so" } @load), "Listen 127.0.0.1:$port", "ErrorLog $dir/log/error.log",
			'TypesConfig /dev/null', 'AddType text/html .html', 'AddType text/javascript .js', 'AddType text/css .css',
			"DefaultRuntimeDir $dir", "Mutex file:$dir default", $user ? ("User $user", "Group $user") : (),
			$kind eq 'mod-fcgid' ? ("FcgidIPCDir $dir/fcgid", "FcgidProcessTableFile $dir/fcgid/shm") : (), $text, $o{conf} // '', '');
	};
	$stage->{port} = on_free_port($stage, 'web', $conf, sub { [have('apache'), '-D', 'FOREGROUND', '-f', "$dir/apache.conf"] });
	return $stage->{web} = 'web';
}

sub stop_server { my ($stage, $signal) = @_; return $stage->stop($stage->{web}, $signal // ($stage->{web} eq 'web' ? 'TERM' : undef), 20) }

# As the distribution's reload does.
sub reload_server {
	my ($stage, $server) = @_;
	kill $server eq 'nginx' ? 'HUP' : 'USR1', $stage->pid($stage->{web});
	return;
}

# ---- databases ----

# A PgBouncer before the stage's PostgreSQL; its conninfo.  Settings replace those of the sample.
sub start_pgbouncer {
	my ($stage, %settings) = @_;
	$started{$stage->dir} = $stage;
	my $dir = $stage->{dir};
	my $user = $stage->{pg_user};
	if (!-d "$dir/pgbouncer") {
		mkdir "$dir/pgbouncer" or die "pgbouncer: $!\n";
		chown +(getpwnam $user)[2, 3], "$dir/pgbouncer" if $user;
	}
	put($stage, 'pgbouncer-users.txt', join '', map { qq("$_" ""\n) } qw(seatcast_reader seatcast_writer postgres));
	my $text = sample($stage, 'etc/pgbouncer.ini', 'tickets = ' => "seatcast = host=$dir/pg port=$stage->{pg_port} dbname=seatcast",
		'unix_socket_dir = ' => "unix_socket_dir = $dir/pgbouncer", 'auth_type = ' => 'auth_type = trust',
		'auth_file = ' => "auth_file = $dir/pgbouncer-users.txt", 'logfile = ' => 'logfile =', 'pidfile = ' => "pidfile = $dir/pgbouncer/pid",
		map { ("$_ = " => "$_ = $settings{$_}") } keys %settings);
	my $file = put($stage, 'pgbouncer.ini', $text);
	$stage->spawn('pgbouncer', [have('pgbouncer'), $file], user => $user);
	my $socket = "$dir/pgbouncer/.s.PGSQL.6432";
	my $up = $stage->wait_until(sub { $stage->ended('pgbouncer') || -S $socket });
	die "PgBouncer does not start:\n" . $stage->log_text('pgbouncer') if !$up || $stage->ended('pgbouncer');
	return $stage->pg_conninfo(host => "$dir/pgbouncer", port => 6432, user => 'seatcast_writer');
}

# A hot standby of the stage's PostgreSQL, made with pg_basebackup -R; its conninfo.
sub start_standby {
	my ($stage) = @_;
	$started{$stage->dir} = $stage;
	my $dir = $stage->{dir};
	my $user = $stage->{pg_user};
	for my $d ("$dir/data2", "$dir/pg2") {
		mkdir $d, 0700 or die "$d: $!\n";
		chown +(getpwnam $user)[2, 3], $d if $user;
	}
	$stage->spawn('pg_basebackup', [$stage->pg_bin('pg_basebackup'), '-D', "$dir/data2", '-R', '-X', 'stream', '-c', 'fast', '-N',
		'-d', "host=$dir/pg port=$stage->{pg_port} user=postgres"], user => $user);
	my $status = $stage->wait_end('pg_basebackup', 120);
	die "pg_basebackup failed:\n" . $stage->log_text('pg_basebackup') if !defined $status || $status;
	my %c = (listen_addresses => '', port => $stage->{pg_port}, unix_socket_directories => "$dir/pg2", unix_socket_permissions => '0700',
		fsync => 'off', shared_buffers => '32MB', max_connections => 200, max_prepared_transactions => 20, hot_standby => 'on',
		log_line_prefix => '%m [%p] %a ', logging_collector => 'off', wal_retrieve_retry_interval => '200ms', %{$stage->{pg_conf}});
	$stage->spawn('standby', [$stage->pg_bin('postgres'), '-D', "$dir/data2", map { ('-c', "$_=$c{$_}") } sort keys %c], user => $user);
	my $up = $stage->wait_until(sub {
		my @line = split /\n/, Stage::slurp("$dir/data2/postmaster.pid");
		return $stage->ended('standby') || @line > 7 && $line[0] == $stage->pid('standby') && $line[7] =~ /^ready/;
	}, 60);
	die "the standby does not start:\n" . $stage->log_text('standby') if !$up || $stage->ended('standby');
	return $stage->pg_conninfo(host => "$dir/pg2", user => 'seatcast_writer');
}

# ---- a balancer ----

my @haproxy_here = ('user haproxy' => '', 'group haproxy' => '', 'log /dev/log' => '');

# HAProxy before web servers at these ports; its port.  A hash at the end replaces lines of the sample.
sub start_haproxy {
	my ($stage, @ports) = @_;
	my $replace = ref $ports[-1] ? pop @ports : {};
	my $n = 0;
	return haproxy($stage, sub {
		my ($port) = @_;
		my $text = sample($stage, 'etc/haproxy.cfg', 'bind \*:80' => "bind 127.0.0.1:$port", 'maxconn 200000' => 'maxconn 4000',
			@haproxy_here, 'stats socket ' => "stats socket $stage->{dir}/haproxy.sock mode 600", %$replace);
		$text =~ s/^\s+server host[ab] .*\n//mg;
		return $text . join '', map { sprintf "\tserver host%s 127.0.0.1:%d check\n", chr(ord('a') + $n++), $_ } @ports;
	});
}

# HAProxy that speaks FastCGI to the stage's seatcast itself; edit => sub that changes the text in $_.
sub start_haproxy_fcgi {
	my ($stage, %o) = @_;
	$stage->{port} = haproxy($stage, sub {
		my ($port) = @_;
		my $text = sample($stage, 'etc/haproxy-fcgi.cfg', 'bind \*:80' => "bind 127.0.0.1:$port", 'maxconn 100000' => 'maxconn 4000',
			@haproxy_here, 'stats socket ' => "stats socket $stage->{dir}/haproxy.sock mode 600",
			'server a unix@' => "server a unix\@$stage->{listen} proto fcgi check inter 1s fall 2 rise 2");
		if ($o{edit}) { $o{edit}->() for $text }
		return $text;
	});
	return $stage->{web} = 'haproxy';
}

sub haproxy {
	my ($stage, $text) = @_;
	$started{$stage->dir} = $stage;
	my $file = "$stage->{dir}/haproxy.cfg";
	return on_free_port($stage, 'haproxy', sub { put($stage, 'haproxy.cfg', $text->(@_)) }, sub { [have('haproxy'), '-db', '-f', $file] });
}

# ---- caches: before a web server at that port; their own port ----

sub start_varnish {
	my ($stage, $port) = @_;
	$started{$stage->dir} = $stage;
	my $dir = $stage->{dir};
	put($stage, 'varnish.vcl', sample($stage, 'etc/varnish.vcl', '\.port = ' => ".port = \"$port\";"));
	chmod 0644, "$dir/varnish.vcl";
	mkdir "$dir/varnish";
	chmod 0777, "$dir/varnish";
	return on_free_port($stage, 'varnish', sub { }, sub { [have('varnishd'), '-F', '-n', "$dir/varnish", '-a', "127.0.0.1:$_[0]", '-f', "$dir/varnish.vcl",
		'-s', 'malloc,64m', $> == 0 ? () : ('-j', 'none')] });
}

sub start_nginx_cache {
	my ($stage, $port) = @_;
	$started{$stage->dir} = $stage;
	my $dir = $stage->{dir};
	my $user = web_user();
	my ($most) = Stage::slurp('/proc/self/limits') =~ /^Max open files\s+\d+\s+(\d+)/m;
	return on_free_port($stage, 'nginx-cache', sub {
		my $text = sample($stage, 'etc/nginx-cache.conf', 'user www-data;' => $user ? "user $user;" : '', 'pid /' => "pid $dir/nginx-cache.pid;",
			'error_log ' => "error_log $dir/log/nginx-cache-error.log;", worker_rlimit_nofile => "worker_rlimit_nofile $most;",
			worker_connections => 'worker_connections ' . int($most / 2) . ';', 'listen 80' => "listen 127.0.0.1:$_[0] backlog=4096;",
			'server 127.0.0.1:8080;' => "server 127.0.0.1:$port;",
			'proxy_cache_path ' => "proxy_cache_path $dir/nginx-cache keys_zone=seatcast:10m use_temp_path=off;");
		$text =~ s/^http \{\n/join '', "http {\n", map { "${_}_temp_path $dir\/nginx-cache-$_;\n" } qw(client_body proxy fastcgi uwsgi scgi)/me;
		put($stage, 'nginx-cache.conf', $text);
	}, sub { [have('nginx'), '-p', $dir, '-c', "$dir/nginx-cache.conf", '-g', 'daemon off;'] });
}

# A test that dies leaves them running: their own children would outlive a SIGKILL from the Stage, so they are asked first.
# This block runs before that of Stage, which was compiled earlier.
my %asked = (web => 'TERM', varnish => 'TERM', 'nginx-cache' => 'TERM', haproxy => 'INT', pgbouncer => 'INT', standby => 'INT');
END {
	my $status = $?;
	local $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
	for my $stage (grep { $_->{owner} == $$ } values %started) {
		$stage->{tick} = sub { select undef, undef, undef, 0.01 };
		for my $name (grep { $stage->{proc}{$_} } sort keys %asked) {
			my @children = $stage->members($name);
			eval { $stage->stop($name, $asked{$name}, 10) };
			kill 'KILL', grep { Stage::slurp("/proc/$_/cmdline") =~ /\Q$stage->{dir}\E/ } @children;
		}
	}
	$? = $status;
}

# ---- processes ----

# Those whose title matches among all descendants of these pids: [pid, parent, group, title].
sub tree {
	my ($pattern, @top) = @_;
	my %in = map { $_ => 1 } grep { defined } @top;
	my @all = Stage::processes();
	for (1 .. 6) { $in{$_->[1]} and $in{$_->[0]} = 1 for @all }
	my @found = grep { $in{$_->[0]} && $_->[3] =~ $pattern } @all;
	return @found;
}

# KiB: resident, proportional, private, and shared memory (of the scoreboard) among the resident.
sub memory {
	my ($pid) = @_;
	my $text = Stage::slurp("/proc/$pid/smaps_rollup");
	my %kib = $text =~ /^(\w+):\s+(\d+) kB/mg;
	return { rss => $kib{Rss}, pss => $kib{Pss}, private => ($kib{Private_Clean} // 0) + ($kib{Private_Dirty} // 0), dirty => $kib{Private_Dirty} };
}

1;
