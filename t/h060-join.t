#!/usr/bin/env perl
# Workers that a web server starts share one master: with --start the first of them makes it, however many come at once, and it goes
# when nobody needs it any more.  A worker that finds no master answers politely, since a browser gives up for good on anything else.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Fcntl; use IO::Socket::UNIX; use Time::HiRes qw(time);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 20, pg => { unix_socket_permissions => '0777' });
my $stage = $s->{stage};
chmod 0755, $s->dir . '/pg';
my $dir = $s->dir;
my $control = "$dir/control.sock";
my $listener = IO::Socket::UNIX->new(Local => $stage->{listen} = "$dir/fcgi.sock", Listen => 4096) or die "socket: $!";
fcntl $listener, F_SETFD, 0 or die "fcntl: $!";
my @options = ('--database', $s->pg_conninfo(user => 'seatcast_writer'), qw(--poll-interval 200ms --drain-timeout 1s --linger 1s));

# A worker with our socket as descriptor 0, as Apache's process manager starts it.
sub start_worker {
	my ($name, @more) = @_;
	return $stage->spawn($name, [$^X, '-MPOSIX=dup2', '-e', 'my $fd = shift; dup2($fd, 0); POSIX::close($fd); exec { $ARGV[0] } @ARGV',
		fileno $listener, binary($stage), '--join', $control, @options, @more]);
}
sub in_logs { my ($like) = @_; return scalar(() = map { $stage->log_text($_) =~ /$like/g } map { "worker$_" } 1 .. 16) }
sub master { my ($pid) = Stage::slurp("$control.lock") =~ /^(\d+)$/; return $pid }
sub running { my ($pid) = @_; return scalar grep { $_->[0] == $pid } Stage::processes() }
sub title { my ($pid) = @_; return (map { $_->[3] } grep { $_->[0] == $pid } Stage::processes())[0] // '' }
END { if (my $pid = -e "$control.lock" && master()) { kill 'KILL', $pid if title($pid) =~ /^seatcast: master/ } }

# Twelve at once
start_worker("worker$_", '--start') for 1 .. 12;
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init', within => 10);
is(in_logs(qr/serving workers that join/), 1, 'twelve workers at once: one master');
is(in_logs(qr/start: /), 0, '… and nobody else tried to be one');
my $first = master();
like(title($first), qr/^seatcast: master/, '… whose pid is in the lock file');
my ($parent) = map { $_->[1] } grep { $_->[0] == $first } Stage::processes();
ok(!(grep { ($stage->pid("worker$_") // 0) == $parent } 1 .. 12), '… and which is no child of a worker');
my @fds = map { readlink($_) // () } glob "/proc/$first/fd/*";
is(scalar(grep { m{fcgi\.sock} || $_ eq 'socket:[' . (stat $listener)[1] . ']' } @fds), 0, '… nor has their socket');
my $other = $s->client('other')->watch(1, 101)->expect_event('init');
$s->expect('all have joined', sub { ($s->counter('workers') // 0) == 12 }, 10);
is($s->counter('groups'), 1, '… and share one loop');
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$_->expect_seat(101 => 'HOLD') for $fan, $other;

# The master dies; who is started next makes another
kill 'KILL', $first;
$_->expect_closed for $fan, $other;
$s->expect('its workers end', sub { !grep { !$stage->ended("worker$_") } 1 .. 12 }, 10);
start_worker("worker$_", '--start') for 13 .. 14;
$fan->reconnect->expect_event('init', within => 10)->expect_seat(101 => 'HOLD');
is(in_logs(qr/serving workers that join/), 2, 'killed: the next worker makes another one');
my $second = master();
isnt($second, $first, '… with a pid of its own in the lock file');

# Nobody needs it any more
$s->expect('both have joined', sub { ($s->counter('workers') // 0) == 2 }, 10);
$fan->close;
kill 'HUP', $stage->pid('worker13');
is($stage->stop('worker13', 'INT'), 0, 'SIGINT to a joined worker: exit 0, after a SIGHUP that was ignored');
is($stage->stop('worker14', 'USR1'), 0, 'SIGUSR1 too');
$s->expect('a master that nobody needs ends', sub { !running($second) }, 20);
ok(!-e $control, '… and leaves no socket');
ok(flock_free(), '… nor its lock');
sub flock_free { open my $fh, '<', "$control.lock" or return 1; return flock $fh, Fcntl::LOCK_EX() | Fcntl::LOCK_NB() }

# Nobody starts one
start_worker('worker15');
my $c = $s->client('polite')->watch(1, 101)->expect_event('busy', within => 8);
is($c->{status}, 200, 'no master: a stream is told busy, by a status that browsers come back after');
like($c->{retry}, qr/^1\d{4}$|^20000$/, '… in 10 to 20 s');
is($stage->wait_end('worker15'), 0, '… and the worker ends, so that the next looks for the master again');
like($stage->log_text('worker15'), qr/join: \S+: the master is not there; serving without it/, '… it has said so');
start_worker('worker16');
is($s->http(GET => '/api/site/areas', {}, undef, 8)->{status}, 200, '… what needs no loop is served');
is($stage->wait_end('worker16'), 0, '… and that worker ends too');

# Signals: as the master's, whatever it is doing
my $waiting = 8;
for my $signal (qw(TERM INT USR1)) {
	start_worker("worker$waiting");
	$s->expect('it looks for a master', sub { title($stage->pid("worker$waiting")) =~ /^seatcast: starting/ }, 5);
	$s->pass_time(0.3);
	kill 'HUP', $stage->pid("worker$waiting");
	is($stage->stop("worker$waiting", $signal), 0, "SIG$signal while it looks for a master: exit 0, after a SIGHUP that was ignored");
}

# Where it can't be started
$control = "$dir/no/such/control.sock";
start_worker('worker9', '--start');
is($s->client('polite too')->watch(1, 101)->expect_event('busy', within => 8)->{status}, 200, 'no place for a socket: told busy too');
like($stage->log_text('worker9'), qr/start: \S+control\.sock\.lock: let the user .* write there/, '… and the log says what to do');
is(scalar(() = $stage->log_text('worker9') =~ /let the user/g), 1, '… once');

# A real Apache, with the sample
SKIP: {
	skip 'mod_fcgid is not installed', 1 if !have('mod_fcgid');
	$control = "$dir/fcgid/control.sock";
	my $sample = Stage::slurp("$stage->{src}/etc/apache-mod-fcgid.conf");
	$sample =~ s/^(\s+FcgidWrapper ".*--join \S+)"/$1 --start --linger 1s --poll-interval 200ms --heartbeat 1s"/m or die 'no FcgidWrapper in the sample';
	mkdir "$dir/$_" for qw(alt alt/etc);
	Deploy::put($stage, 'alt/etc/apache-mod-fcgid.conf', $sample);
	symlink "$stage->{src}/web", "$dir/alt/web";
	{
		local $stage->{src} = "$dir/alt";
		start_server($stage, 'mod-fcgid', control => $control);
	}
	local $s->{direct} = 0;
	my @crowd = map { $s->client("viewer $_")->watch(1, 101) } 1 .. 20;
	$_->expect_event('init', within => 20) for @crowd;
	my ($groups) = $s->http(GET => '/metrics', {}, undef, 10)->{body} =~ /^seatcast_groups (\d+)$/m;
	is($groups, 1, 'mod_fcgid: 20 viewers of one block share one loop');
	my $third = master();
	like(title($third), qr/^seatcast: master/, '… of one master');
	$s->sql("SELECT seatcast.hold(1, 102, 7, '5m')");
	$_->expect_seat(102 => 'HOLD') for @crowd;
	is(in_error(qr/serving workers that join/), 1, '… which was made once');
	$_->close for @crowd;
	stop_server($stage);
	$s->expect('Apache stopped: the master goes too', sub { !running($third) }, 20);
}
sub in_error { my ($like) = @_; return scalar(() = $stage->log_text('error') =~ /$like/g) }

my $text = qx{'${\ binary($stage)}' --start 2>&1};
is($? >> 8, 2, '--start without --join is refused');
like($text, qr/^seatcast: --start: goes with --join$/, '… in one line');
$s->done;
