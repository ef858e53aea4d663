#!/usr/bin/env perl
# Under a real systemd, in a container, with the units as they are: started by the first connection, ready when systemctl says so, a user of
# no privilege that PostgreSQL knows by its name, nothing forbidden that is needed; a restart refuses nobody; killed or stuck, it comes back.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

# The container is this machine's own system, read-only below an overlay; of /etc/systemd/system there is only what is needed.  Its network
# is its own.  It and this test meet at /run/seatcast, and at PostgreSQL's socket.
plan(skip_all => 'a container needs root') if $>;
my ($nspawn, $unshare, $nsenter) = map { have($_) // plan(skip_all => "$_ is not installed (Debian: systemd-container, util-linux)") } qw(systemd-nspawn unshare nsenter);
my $systemd = (grep { -x } qw(/usr/lib/systemd/systemd /lib/systemd/systemd))[0] // plan(skip_all => 'systemd is not installed');
plan(skip_all => 'the container shows one file system, and /usr is another here') if (stat '/')[0] != (stat '/usr')[0];
plan(skip_all => 'no group www-data here, whose the socket is') if !defined getgrnam 'www-data';
my $nss = Stage::slurp('/etc/nsswitch.conf') =~ /^passwd:.*\bsystemd\b/m;	# libnss-systemd: a dynamic user has a name

my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my $s = Scenario->new(start => 0, lighttpd => 0, seats => 20);
my ($stage, $dir) = ($s->{stage}, $s->dir);
my $pg = $stage->pg_bin('postgres');
my $pg_user = $stage->{pg_user};
$s->pg_stop;

# PostgreSQL goes on in there, where the names of dynamic users are known.
my $method = $nss ? 'peer map=seatcast' : 'trust';
my $hba = Stage::slurp("$dir/data/pg_hba.conf");
Deploy::put($stage, 'data/pg_hba.conf', "local seatcast seatcast_writer $method\n$hba");
Deploy::put($stage, 'data/pg_ident.conf', "seatcast seatcast seatcast_writer\n");
chmod 0755, "$dir/pg" or die "$dir/pg: $!";
mkdir "$dir/$_" or die "$dir/$_: $!" for qw(units units/seatcast.service.d run root);
Deploy::put($stage, "units/$_", Stage::slurp("$stage->{src}/etc/$_") || die "etc/$_: $!") for qw(seatcast.service seatcast.socket);
my $unit = Stage::slurp("$stage->{src}/etc/seatcast.service");
# What the filter would refuse with EPERM, quietly, kills instead.
Deploy::put($stage, 'units/seatcast.service.d/test.conf', "[Service]\nSystemCallErrorNumber=kill\nLimitCORE=0\n");
Deploy::put($stage, 'units/database.service', <<~E);
	[Service]
	User=$pg_user
	ExecStart=$pg -D /srv/seatcast/data -c listen_addresses= -c unix_socket_directories=/run/postgresql -c fsync=off -c shared_buffers=32MB
	KillSignal=SIGINT
	E
Deploy::put($stage, 'defaults', <<~E);
	SEATCAST_DATABASE="host=/run/postgresql dbname=seatcast user=seatcast_writer"
	SEATCAST_POLL_INTERVAL=200ms
	SEATCAST_DRAIN_TIMEOUT=2s
	SEATCAST_WORKERS=2
	E

my $machine = "seatcast-test-$$";
$stage->spawn('container', [$unshare, '--mount', '--propagation', 'private', 'sh', '-c', 'mount --bind / "$1" && shift && exec "$@"', 'sh', "$dir/root",
	$nspawn, qw(-q -b --volatile=overlay --register=no --private-network --console=pipe --link-journal=no --tmpfs=/var/log),
	(-d '/run/systemd/system' ? () : '--keep-unit'), "--machine=$machine", "--directory=$dir/root", "--bind=$dir:/srv/seatcast",
	"--bind=$dir/pg:/run/postgresql", "--bind=$dir/run:/run/seatcast", "--bind-ro=$dir/units:/etc/systemd/system",
	"--bind-ro=$dir/defaults:/etc/default/seatcast", '--bind-ro=/dev/null:/etc/fstab', '--bind-ro=' . binary($stage) . ':/usr/local/sbin/seatcast',
	'--', '--unit=basic.target']);
my $init;
sub end_container {
	my $status = $stage->stop('container', 'TERM', 40 * $slow);
	rmdir "/run/systemd/nspawn/$_/$machine" for qw(propagate unix-export);	# left where /run is no file system of its own
	return $status // 'no end';
}
END {
	my $status = $?;
	end_container() if $stage && $stage->{owner} == $$ && $stage->pid('container');
	$? = $status;
}
sub inside { my (@command) = @_; return ($nsenter, '-t', $init, '-a', 'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C', @command) }
# Run a command in there while the clients are served: its wait status and what it printed.
sub run {
	my (@command) = @_;
	unlink $stage->log_path('command');
	$stage->spawn('command', [inside(@command)]);
	my $status = $stage->wait_end('command', 60 * $slow);
	delete $stage->{proc}{command};
	return ($status // 'no end', $stage->log_text('command') =~ s/\n\z//r);
}
sub show { my ($property, $unit) = @_; my ($status, $value) = run(qw(systemctl show -P), $property, $unit // 'seatcast.service'); return $value }
sub journal { run(qw(journalctl --sync)); return (run(qw(journalctl -b -o cat --no-pager -u seatcast.service)))[1] }
sub works { my (@command) = @_; my ($status, $said) = run(@command); is($status, 0, "@command") or diag($said, "\n", journal()) }

my $booted = $s->wait_for(sub {
	return 'ended' if $stage->ended('container');
	$init //= (map { $_->[0] } grep { $_->[1] == $stage->pid('container') && $_->[3] =~ m{^\S*/(?:systemd|init) } } Stage::processes())[0] // return 0;
	my $said = qx{@{[ join ' ', inside(qw(systemctl is-system-running)) ]} 2>/dev/null};
	return $said =~ /running|degraded/;
}, 60 * $slow);
if (!$booted || $booted eq 'ended') {
	my $why = $stage->log_text('container') =~ s/\s+/ /gr;
	end_container();
	SKIP: { skip "no container boots here: $why", 1 }
	$s->done;
	exit;
}
pass('systemd runs: ' . ((run(qw(systemctl --version)))[1] =~ /^(.*)/)[0]);
works(qw(systemctl start database.service));
$s->expect('PostgreSQL runs in there', sub { -S "$dir/pg/.s.PGSQL.5432" && eval { $s->sql('SELECT 1') } }, 30 * $slow);

# ---- the first connection starts it; as whom, with what ----

$stage->{listen} = "$dir/run/fcgi.sock";
works(qw(systemctl start seatcast.socket));
is(show('ActiveState'), 'inactive', 'with the socket alone, nothing of it runs');
is(sprintf('%o', (stat $stage->{listen})[2] & 07777), '660', '… the socket is for its owner and group');
is((getgrgid((stat _)[5]))[0], 'www-data', '… which is the web server\'s');
my $first = $s->client('the first')->watch(1, 101)->expect_event('init', within => 15 * $slow);
$s->expect('the first connection has started it', sub { show('ActiveState') eq 'active' });
is(show('Result'), 'success', '… well');

# Out here it has another pid than in there.
sub master { my $inner = show('MainPID'); return (grep { Stage::slurp("/proc/$_/status") =~ /^NSpid:.*\t$inner$/m } map { $_->[0] } tree(qr/./, $init))[0] // 0 }
my $master = master();
my %status = Stage::slurp("/proc/$master/status") =~ /^(\w+):\s+(.*)$/mg;
my ($uid) = split ' ', $status{Uid};
cmp_ok($uid, '>=', 61184, "a dynamic user, $uid");
is(hex $status{$_}, 0, "… $_: none") for qw(CapPrm CapEff CapBnd CapAmb);
is($status{NoNewPrivs}, 1, '… nor any by setuid programs');
is($status{Seccomp}, 2, '… and system calls are filtered');
my ($want) = $unit =~ /^LimitNOFILE=(\d+)/m;
my ($hard) = Stage::slurp("/proc/$init/limits") =~ /^Max open files\s+\d+\s+(\d+)/m;
my ($has) = Stage::slurp("/proc/$master/limits") =~ /^Max open files\s+(\d+)/m;
# Without CAP_SYS_RESOURCE out here systemd cannot give more than it has.
ok($has == $want || $has == $hard && $hard < $want, "LimitNOFILE: $has" . ($has == $hard && $hard < $want ? ', all that may be had here' : ''));
SKIP: {
	skip 'no libnss-systemd here: PostgreSQL trusts', 2 if !$nss;
	my ($there) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'seatcast_writer'");
	cmp_ok($there->[0], '>=', 1, "PostgreSQL knows it as a peer: $there->[0] connections");
	my ($status, $said) = run('setpriv', "--reuid=$pg_user", "--regid=$pg_user", '--clear-groups', $stage->pg_bin('psql'), qw(-XAt -h /run/postgresql -d seatcast -U seatcast_writer -c), 'SELECT 1');
	like($said, qr/Peer authentication failed/, '… and nobody else by that name');
}

# All that it does, under the filter
my $seat = $s->http(GET => $s->snapshot_path(1, 101));
is($seat->{status}, 200, 'a snapshot');
is($s->http(GET => $_)->{status}, 200, $_) for qw(/healthz /readyz /metrics /status);
$s->sql("SELECT seatcast.hold(1, 101, 7, '5 minutes')");
$first->expect_event('update', seatId => 101, status => 'HOLD', within => 5 * $slow);

# ---- restarts ----

# Requests one after another while something happens: how many were not answered 200, and the longest wait.
sub under_requests {
	my ($until, $within) = @_;
	my ($asked, $ok, $worst, @open) = (0, 0, 0);
	my $look = sub {
		for (grep { $_->[0]{closed} && !$_->[2] } @open) {
			$_->[2] = 1;
			$ok++ if ($_->[0]{status} // 0) == 200;
			my $took = $_->[0]{closed_at} - $_->[1];
			$worst = $took if $took > $worst;
		}
	};
	my $end = time + $within;
	do {
		$asked++;
		my $c = eval { $s->client('asks')->request(GET => '/healthz') };
		push @open, [$c, time] if $c;
		$s->pass_time(0.01);
		$look->();
	} until $until->() || time > $end;
	$s->wait_for(sub { $look->(); !grep { !$_->[2] } @open }, 15 * $slow);
	my %done = map { $_->[0] => 1 } @open;
	$s->{clients} = [grep { !$done{$_} } @{$s->{clients}}];
	return ($asked, $asked - $ok, $worst);
}

my @fans = map { $s->client("fan $_")->watch(1, $_ % 2 ? 101 : 102) } 1 .. 20;
$s->expect('20 streams', sub { !grep { !$_->events('init') } @fans });
my $began = time;
unlink $stage->log_path('command');
$stage->spawn('command', [inside(qw(systemctl restart seatcast.service))]);
my $restarted;
my $more = 0;
my ($asked, $lost, $worst) = under_requests(sub { $restarted //= time if $stage->ended('command'); $restarted && time > $restarted + 0.5 }, 40 * $slow);
is($stage->{proc}{command}{status}, 0, 'systemctl restart');
delete $stage->{proc}{command};
my $new = master();
isnt($new, $master, '… it is another one');
is($lost, 0, sprintf '… under %d requests: none refused or lost, the slowest waited %.1f s', $asked, $worst);
$_->expect_closed(how => 'clean') for @fans[0, 1];
is(scalar(grep { ($_->{closed} // '') ne 'clean' } @fans, $first), 0, '… all streams were ended, none was cut');
cmp_ok($restarted - $began, '<', 30, sprintf '… within TimeoutStopSec: %.1f s', $restarted - $began);
unlike(journal(), qr/timed out|SIGKILL/, '… by itself');

sub comes_back {
	my ($says, $signal, $within) = @_;
	my $old = master();
	my $fan = $s->client("fan, $says")->watch(1, 101)->expect_event('init');
	my $restarts = show('NRestarts');
	my $at = time;
	kill $signal, $old or die "kill $old: $!";
	$s->expect("$says: systemd starts it again", sub { show('NRestarts') > $restarts && show('ActiveState') eq 'active' }, $within * $slow);
	my $took = time - $at;
	my $new = master();
	isnt($new, $old, sprintf '… another one, after %.1f s', $took);
	$fan->expect_closed(within => 5 * $slow);
	$fan->reconnect->expect_event('init', within => 10 * $slow)->close;
	my @left = grep { $_->[0] != $new && $_->[1] != $new } tree(qr/^seatcast: /, $init);
	is(join(', ', map { "$_->[0] $_->[3]" } @left), '', '… and nothing is left of the old one');
}
comes_back('kill -9 of the master', KILL => 15);
my ($watchdog) = $unit =~ /^WatchdogSec=(\d+)$/m;
ok($watchdog, 'the unit has a WatchdogSec');
comes_back('kill -STOP of the master', STOP => $watchdog + 20);
like(journal(), qr/Watchdog timeout/, '… which was the watchdog\'s doing');

# Left alone for longer than the watchdog waits, it is left alone.
my $quiet = master();
$s->pass_time($watchdog * 1.5);
is(master(), $quiet, 'one that is well goes on');

# systemctl returns when seatcast says that it is ready: here it begins a second late.
Deploy::put($stage, 'units/seatcast.service.d/late.conf', "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sleep 1; exec /usr/local/sbin/seatcast'\n");
works(qw(systemctl daemon-reload));
works(qw(systemctl restart seatcast.service));
my $ready_after = (show('ActiveEnterTimestampMonotonic') - show('ExecMainStartTimestampMonotonic')) / 1e6;
cmp_ok($ready_after, '>', 0.9, sprintf 'one that begins late is ready late: after %.2f s', $ready_after);
unlink "$dir/units/seatcast.service.d/late.conf";
works(qw(systemctl daemon-reload));

# ---- the end ----

my $last = $s->client('the last')->watch(1, 101)->expect_event('init');
works(qw(systemctl stop seatcast.service));
$last->expect_closed(how => 'clean');
is(show('Result'), 'success', 'it has ended as it should');
ok(-S $stage->{listen}, '… and the socket is still there');
$s->client('the next')->watch(1, 101)->expect_event('init', within => 15 * $slow);
pass('… and starts it again');
$_->close for @{$s->{clients}};
works(qw(systemctl stop seatcast.socket));
ok(!-e $stage->{listen}, 'the socket is stopped, and gone');
is(show('ActiveState'), 'inactive', '… and seatcast with it');
my $log = journal();
like($log, qr/serving on descriptor 0/, 'the journal has it all');
is(join("\n", $log =~ /^(.*(?:Operation not permitted|Permission denied|signal 31|SIGSYS|status=31).*)$/mgi), '', '… and nothing was forbidden that it needs');
is(join("\n", $log =~ /^(.*(?:must: |\bfatal\b).*)$/mg), '', '… and it is clean');
$stage->hang_up;
is(end_container(), 0, 'the container ends');
$s->done;
