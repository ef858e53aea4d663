#!/usr/bin/env perl
# systemd's units are sound and tight; the socket on descriptor 0 outlives seatcast, so that a restart refuses nobody; the rc script
# starts, stops and says what is.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Fcntl; use IO::Socket::UNIX; use Time::HiRes qw(time);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 20);
my $stage = $s->{stage};
my $dir = $s->dir;
my $binary = binary($stage);

SKIP: {
	my $analyze = have('systemd-analyze') or skip 'systemd-analyze is not installed', 3;
	my %replace = ('seatcast.service' => sub { s{/usr/local/sbin/seatcast$}{$binary}m }, 'seatcast.socket' => sub { });
	mkdir "$dir/units";
	for my $unit (keys %replace) {
		local $_ = Stage::slurp("$stage->{src}/etc/$unit") or die "$unit: $!";
		$replace{$unit}->();
		Deploy::put($stage, "units/$unit", $_);
	}
	my $said = qx{cd '$dir/units' && '$analyze' verify --man=no ./seatcast.service ./seatcast.socket 2>&1};
	skip "systemd-analyze cannot work here: $said", 3 if $said =~ /Failed to (?:connect|initialize|set up)|not been booted/i;
	is($?, 0, 'systemd-analyze verify');
	is($said, '', '… has nothing to say');
	my ($score) = qx{cd '$dir/units' && '$analyze' security --offline=true --no-pager ./seatcast.service 2>&1} =~ /exposure level for \S+: ([\d.]+)/;
	skip 'no systemd-analyze security --offline here (systemd 250 has it)', 1 if !defined $score;
	cmp_ok($score, '<=', 1.5, "systemd-analyze security: exposure $score");
}

# What systemd does with StandardInput=socket: it keeps the socket, each start has it as descriptor 0.
my $path = $stage->{listen} = "$dir/fcgi.sock";
my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 4096) or die "socket: $!";
fcntl $listener, F_SETFD, 0 or die "fcntl: $!";
my @options = ('--database', $s->pg_conninfo(user => 'seatcast_writer'), qw(--workers 2 --poll-interval 200ms --drain-timeout 1s));
sub dup_start {
	return $stage->spawn('seatcast', [$^X, '-MPOSIX=dup2', '-e', 'my $fd = shift; dup2($fd, 0); POSIX::close($fd); exec { $ARGV[0] } @ARGV', fileno $listener, $binary, @options]);
}
my $early = $s->client('early')->watch(1, 101);		# before there is anybody to serve
$s->pass_time(0.3);
dup_start();
$early->expect_event('init');
pass('who came before seatcast did is served');
for my $signal (qw(TERM KILL)) {
	my ($asked, $ok, $worst, @open) = (0, 0, 0);
	my $fan = $s->client("fan $signal")->watch(1, 101)->expect_event('init');
	my $round = sub {
		push @open, [$s->client('asks')->request(GET => '/healthz'), time];
		$asked++;
		$s->pass_time(0.01);
		for (grep { $_->[0]{closed} && !$_->[2] } @open) {
			$_->[2] = 1;
			$ok++ if ($_->[0]{status} // 0) == 200;
			$worst = time - $_->[1] if time - $_->[1] > $worst;
		}
	};
	$round->() for 1 .. 20;
	my $cut = $asked;
	if ($signal eq 'KILL') {
		$s->wait_for(sub { !grep { !$_->[0]{closed} } @open }, 5);	# what a process that is killed has begun is lost
	}
	kill $signal, $stage->pid('seatcast');
	my $until = time + 10;
	$round->() until $stage->ended('seatcast') || time > $until;
	ok($stage->ended('seatcast'), "SIG$signal: it ends");
	delete $stage->{proc}{seatcast};
	$round->() for 1 .. 20;				# nobody is there
	my $began = time;
	dup_start();
	$round->() while time < $began + 1;
	$s->wait_for(sub { !grep { !$_->[0]{closed} } @open }, 10);
	$round->();
	$s->wait_for(sub { !grep { !$_->[0]{closed} } @open }, 10);
	for (grep { !$_->[2] } @open) { $ok++ if ($_->[0]{status} // 0) == 200 }
	if ($signal eq 'TERM') {
		is($ok, $asked, sprintf 'a restart under %d requests: none refused or lost, the slowest waited %.1f s', $asked, $worst);
		$fan->expect_closed(how => 'clean');
	} else {
		cmp_ok($asked - $ok, '<=', 2, sprintf 'killed under %d requests: %d lost', $asked, $asked - $ok);
	}
	$fan->reconnect->expect_event('init')->close;
	$s->{clients} = [];
}
$_->close for $early;
is($s->stop_seatcast, 0, 'seatcast ends as it should');
ok(-S $path, '… and leaves the socket to its owner');
close $listener;

# The rc script, as whoever we are
mkdir "$dir/run";

Deploy::put($stage, 'defaults', <<~E);
	PROGRAM=$binary
	RUN_AS=root
	GROUP=root
	DIRECTORY=$dir/run
	FILES=4096
	SEATCAST_DATABASE="@{[ $s->pg_conninfo(user => 'seatcast_writer') ]}"
	SEATCAST_DRAIN_TIMEOUT=500ms
	SEATCAST_LOG_TARGET=stderr
	SEATCAST_OUTPUT=$dir/log/seatcast.log
	E
my $rc = sub { my ($what) = @_; local $ENV{SEATCAST_DEFAULTS} = "$dir/defaults"; my $out = qx{sh '$stage->{src}/etc/rc.seatcast' $what 2>&1}; return sprintf '%d %s', $? >> 8, $out };
$stage->{listen} = "$dir/run/fcgi.sock";
is($rc->('status'), "3 seatcast does not run\n", 'rc status: not yet');
is($rc->('start'), '0 ', 'rc start');
my $pid = Stage::slurp("$dir/run/pid") + 0;
is($rc->('status'), "0 seatcast runs, pid $pid\n", 'rc status');
$s->expect('it serves', sub { ($s->http(GET => '/readyz')->{status} // 0) == 200 }, 10);
is($rc->('start'), "0 seatcast runs already, pid $pid\n", 'rc start: twice is once');
is($rc->('restart'), '0 ', 'rc restart');
isnt(Stage::slurp("$dir/run/pid") + 0, $pid, '… another one');
$s->expect('it serves', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 10);
is($rc->('stop'), '0 ', 'rc stop');
is($rc->('status'), "3 seatcast does not run\n", 'rc status: not any more');
is($rc->('stop'), '0 ', 'rc stop: twice is once');
like($rc->('fly'), qr/^2 usage/, 'rc: anything else');
ok(!grep({ $_->[2] == $pid } Stage::processes()), 'nothing is left of it');
$s->done;
