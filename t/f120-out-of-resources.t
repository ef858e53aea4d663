#!/usr/bin/env perl
# Out of descriptors, of processes, of memory: whoever comes is refused politely, who is there is served, nothing spins, and when it is over all is
# as before without help.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use File::Copy (); use Time::HiRes qw(time);

my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my ($prlimit) = grep { -x } map { "$_/prlimit" } split /:/, $ENV{PATH};
plan skip_all => 'prlimit (util-linux) is not there' if !$prlimit;
my @STATUS = qw(HOLD OCCUPIED AVAILABLE);
my $n = 0;

sub cpu { my ($pid) = @_; my @f = split / /, (Stage::slurp("/proc/$pid/stat") =~ s/.*\) //sr); return ($f[11] + $f[12]) / 100 }
# The soft limit alone, so that it can be raised again without privileges.
sub limit { my ($pid, $what, $value, @as) = @_; system(@as, $prlimit, '--pid', $pid, "--$what=$value:") == 0 or die "prlimit --$what=$value failed\n" }
sub set_seats {
	my ($s, $block) = @_;
	my $status = $STATUS[$n++ % 3];
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, '$status' FROM seats WHERE block_id = $block ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	return $status;
}
# A change reaches these.
sub expect_change {
	my ($s, $block, $seat, $says, @c) = @_;
	my $status = set_seats($s, $block);
	my $t = time;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($s->wait_for(sub { !grep { ($_->{seats}{$seat} // '') ne $status } @c }, 2 * $slow), "$says: a change arrives") or diag(map { "  $_->{name}: " . ($_->{seats}{$seat} // 'unknown') . ', ' . ($_->{closed} // 'open') . "\n" } @c);
	return;
}
# An EventSource is told busy.
sub is_polite {
	my ($s, $c, $says) = @_;
	$s->wait_for(sub { $c->{closed} }, 7 * $slow);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($busy) = $c->events('busy');
	ok($busy && $c->{closed} && $c->{status} == 200 && $c->{retry} >= 10_000, "$says: told busy, politely") or diag("it got: status " . ($c->{status} // 'none') . ', ' . ($c->{closed} // 'still open') . ", body '$c->{body}'");
	return;
}
sub comes_back {
	my ($s, $c, $says, $within) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($s->wait_for(sub { $c->reconnect; $s->wait_for(sub { $c->events || $c->{closed} }, 3) && $c->events && !$c->events('busy') }, $within * $slow), "$says: served") or diag('its last answer: ' . ($c->{status} // 'none') . ' ' . ($c->{body} // ''));
	return;
}

# ---- few descriptors from the start ----

subtest 'ulimit -n 80' => sub {
	local $ENV{SEATCAST_WRAP} = join ' ', $prlimit, '--nofile=80:80', $ENV{SEATCAST_WRAP} // ();
	my $s = Scenario->new(seats => 10, lighttpd => 0, heartbeat => '60m', pg => { log_statement => 'none' });
	like($s->log_text('seatcast'), qr/--max-streams 10000 lowered to 64: a process may open 80 files/, 'it says at the start how many streams fit');
	my @c = map { $s->client("fan $_")->watch(1, 101) } 1 .. 64;
	$s->expect('64 streams', sub { !grep { !$_->events('init') } @c });
	is_polite($s, $s->client('too many')->watch(1, 101), 'the 65th');
	is($s->http(GET => $s->snapshot_path(1, 101))->{status}, 200, 'a snapshot is answered');

	# The workers run out: connections that say nothing.
	my @workers = $s->pids('worker');
	my %cpu = map { $_ => cpu($_) } @workers;
	my @silent = map { IO::Socket::UNIX->new(Peer => $s->{stage}{listen}, Blocking => 0) } 1 .. 250;
	my $began = time;
	$s->expect_log(qr/worker: accept: pausing; raise the limit of open files/, within => 3);
	expect_change($s, 101, 101, 'workers without descriptors', @c);
	my $patient = $s->client('patient')->get('/healthz');
	$s->pass_time(2);
	my $cpu = 0;
	$cpu += cpu($_) - $cpu{$_} for @workers;
	cmp_ok($cpu / (time - $began), '<', 0.2, sprintf '… they do not spin: %.2f s of CPU in %.1f s', $cpu, time - $began) if !$s->sanitized;
	$patient->expect_closed(within => 20 * $slow);
	is($patient->{status}, 200, sprintf '… who waits is answered when the silent ones have been dropped: after %.1f s', time - $began);
	close $_ for @silent;
	is($s->http(GET => '/healthz')->{status}, 200, '… and then it is over');
	my @said = $s->log_text('seatcast') =~ /^(.*accept: pausing.*)$/mg;
	cmp_ok(scalar @said, '<=', 20, '… the log was told ' . @said . ' times');
	(shift @c)->close;
	comes_back($s, $s->client('next')->watch(1, 101), 'one leaves, the next', 3);
	$s->expect_counter(worker_restarts => 0)->expect_counter(loop_crashes => 0);
	$s->done;
};

# ---- descriptors taken away from those that run ----

subtest 'no descriptor left in the loop, in the master' => sub {
	my $s = Scenario->new(seats => 10, lighttpd => 0, heartbeat => '60m', linger => '300ms', pg => { log_statement => 'none' });
	my @c = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 5;
	$s->http(GET => '/readyz') for 1 .. 8;
	my ($loop) = $s->pids('loop 1/101');
	my ($master) = $s->pids('master');
	my ($fds, $loop_fds) = ($s->fds($master), $s->fds($loop));
	limit($loop, nofile => $loop_fds);
	my @new = map { $s->client("new $_")->watch(1, 101) } 1 .. 3;
	$s->wait_for(sub { !grep { !$_->{closed} } @new }, 6);
	is(scalar(grep { !$_->{closed} } @new), 0, 'the loop has no descriptor for more: those who come do not hang') or diag(map { "  $_->{name}: " . ($_->{status} // 'no answer') . "\n" } @new);
	$s->expect_log(qr/loop 1\/101: viewer: not adopted: out of descriptors/, within => 2);
	expect_change($s, 101, 101, '… those who are there are served', @c);
	limit($loop, nofile => 1024);
	comes_back($s, $_, "… over: $_->{name}", 3) for @new;
	is(($s->pids('loop 1/101'))[0], $loop, '… by the same loop');

	limit($master, nofile => $s->fds($master));
	my $b = $s->client('another block')->watch(1, 102);
	$s->wait_for(sub { $b->{closed} }, 7);
	ok($b->{closed}, 'the master has none: a new group is refused and does not hang') or diag($b->{status} // 'no answer');
	expect_change($s, 101, 101, '… those who are there are served', @c, @new);
	is($s->http(GET => '/healthz')->{status}, 200, '… so are short requests');
	limit($master, nofile => 1024);
	comes_back($s, $b, '… over', 4);
	$_->close for @c, @new, $b;
	ok($s->wait_for(sub { $s->fds($master) <= $fds }, 10), 'no descriptor of the master is left over') or diag($s->fds($master) . " instead of $fds");
	$s->expect_counter(viewers => 0)->expect_counter(worker_restarts => 0)->expect_counter(loop_crashes => 0);
	$s->done;
};

# ---- no more processes ----

subtest 'RLIMIT_NPROC' => sub {
	my ($setpriv) = grep { -x } map { "$_/setpriv" } split /:/, $ENV{PATH};
	plan skip_all => 'only root can run it as a user who has no other process' if $> != 0 || !$setpriv;
	plan skip_all => 'LeakSanitizer needs a process of its own' if Stage::slurp($ENV{SEATCAST} // "$ENV{top_builddir}/src/seatcast") =~ /__asan_init/;
	my $uid = 1_000_000 + $$;
	my $s = Scenario->new(seats => 10, lighttpd => 0, heartbeat => '60m', linger => '300ms', start => 0, pg => { log_statement => 'none', listen_addresses => '127.0.0.1' });
	mkdir $s->dir . '/run' or die $!;
	chown $uid, $uid, $s->dir . '/run';
	my $binary = Cwd::abs_path($ENV{SEATCAST} // "$s->{stage}{build}/src/seatcast");
	File::Copy::copy($binary, $s->dir . '/seatcast') && chmod 0755, $s->dir . '/seatcast' or die "copy: $!";
	$s->sql("INSERT INTO blocks (id, section_id, name) VALUES (103, 1, '103'); INSERT INTO seats (id, block_id, row_number, seat_number) VALUES (2000001, 103, 1, 1)");
	local $ENV{SEATCAST} = $s->dir . '/seatcast';
	my @as = ($setpriv, "--reuid=$uid", "--regid=$uid", '--clear-groups', '--');
	local $ENV{SEATCAST_WRAP} = join ' ', @as, $prlimit, '--nproc=5:6';
	$s->start_seatcast(listen => $s->dir . '/run/fcgi.sock', database => $s->pg_conninfo(host => '127.0.0.1', user => 'seatcast_writer'));
	$s->expect('the process that looks once at the start has ended', sub { !$s->pids('check') });
	my @c = map { $s->client("fan $_")->watch(1, 100 + $_)->expect_event('init') } 1, 2;
	my $c = $s->client('third block')->watch(1, 103);
	is_polite($s, $c, 'no process for a third group');
	is($s->http(GET => $s->snapshot_path(1, 103))->{status}, 503, '… a snapshot gets 503');
	is_polite($s, $s->client('again')->watch(1, 103), '… and the next one');
	$s->expect_counter(refused_overload => '>=', 3);
	my @said = $s->log_text('seatcast') =~ /^(.*fork: no new loop.*)$/mg;
	is(scalar(@said), 1, '… the log says it once') or diag(map { "$_\n" } @said);
	expect_change($s, 101, 101, '… the first block', $c[0]);
	expect_change($s, 102, 1000001, '… and the second', $c[1]);

	# A worker dies, and cannot be replaced.
	my ($master) = $s->pids('master');
	my ($worker) = $s->pids('worker');
	limit($master, 'nproc', 1, @as);
	kill 'KILL', $worker;
	$s->pass_time(1.5);
	is(scalar($s->pids('worker')), 1, 'a worker was killed and cannot be replaced');
	is($s->http(GET => '/healthz')->{status}, 200, '… the other one serves');
	my $busy = cpu($master);
	$s->pass_time(1.5);
	cmp_ok(cpu($master) - $busy, '<', 0.3, sprintf '… the master does not spin: %.2f s in 1.5 s', cpu($master) - $busy);
	limit($master, 'nproc', 6, @as);
	$s->expect('… over: it is replaced', sub { $s->pids('worker') == 2 }, 5);
	comes_back($s, $c, '… over: the third group', 15);
	expect_change($s, 103, 2000001, '… and is alive', $c);
	expect_change($s, 101, 101, '… the first block too, on its old connection', $c[0]);
	$s->done;
};

# ---- no more memory ----

subtest 'RLIMIT_AS' => sub {
	my $s = Scenario->new(seats => 6000, lighttpd => 0, heartbeat => '60m', pg => { log_statement => 'none' });
	plan skip_all => 'AddressSanitizer maps terabytes' if $s->sanitized;
	my @c = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 3;
	my $other = $s->client('other')->watch(1, 102)->expect_event('init');
	my ($loop) = $s->pids('loop 1/101');
	expect_change($s, 101, 101, 'before', @c);
	# How little: the first does not take the rows in, the others get further.
	for my $more (32, 80, 120, 200) {
		my $what = "$more KiB more";
		my ($size) = Stage::slurp("/proc/$loop/status") =~ /^VmSize:\s+(\d+)/m;
		my $log_at = length $s->log_text('seatcast');
		limit($loop, as => 1024 * ($size + $more));
		my $status = set_seats($s, 101);		# half a megabyte of rows, and of frames
		my $said = sub { my @lines = substr($s->log_text('seatcast'), $log_at) =~ /^(.*loop 1\/101.*)$/mg; return @lines };
		my $told = sub { !grep { $_ ne $status } map { values %{$_->{seats}} } @c };
		ok($s->wait_for(sub { $told->() || grep { /memory/ } $said->() }, 5), "$what: the viewers are told, or the log of too little memory");
		$s->pass_time(1);
		my @lines = $said->();
		note("$what: the loop ", -e "/proc/$loop/stat" ? 'lives' : 'has ended', '; viewers: ', join(', ', map { $_->{closed} // 'open' } @c), map { "\n  $_" } @lines);
		cmp_ok(scalar @lines, '<=', 5, "$what: the log was told " . @lines . ' times') or diag(map { "  $_\n" } @lines[0 .. 9]);
		my $cpu = -e "/proc/$loop/stat" ? cpu($loop) : 0;
		$s->pass_time(1);
		cmp_ok(cpu($loop) - $cpu, '<', 0.6, sprintf '… it does not spin: %.2f s of CPU in 1 s', cpu($loop) - $cpu) if -e "/proc/$loop/stat";
		expect_change($s, 102, 1000001, '… the other block', $other);
		my $new = $s->client("new, $what")->watch(1, 101);
		$s->wait_for(sub { $new->events || $new->{closed} }, 7);
		ok($new->events || $new->{closed} || grep({ /memory/ } $said->()), '… a new viewer does not hang, or the log says that it waits for memory') or diag('status ' . ($new->{status} // 'none'));
		limit($loop, as => 'unlimited') if -e "/proc/$loop/stat";
		for my $c (@c, $new) {
			comes_back($s, $c, "over: $c->{name} comes back", 5) if $c->{closed};
			ok($s->wait_for(sub { !grep { $_ ne $status } values %{$c->{seats}} }, 6 * $slow), "over: $c->{name} has all 6000 changes") or diag(scalar(grep { $_ ne $status } values %{$c->{seats}}) . ' are wrong, ' . ($c->{closed} // 'open'));
		}
		is(scalar(grep { $_->{closed} } @c, $new), 0, '… and nobody is cut in the end');
		expect_change($s, 101, 101, '… and the next', @c, $new);
		$new->close;
		($loop) = $s->pids('loop 1/101');
	}
	$s->expect_counter(worker_restarts => 0);
	$s->done;
};
done_testing;
