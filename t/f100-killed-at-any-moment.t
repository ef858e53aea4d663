#!/usr/bin/env perl
# kill -9 of a loop at any moment: before it is ready, while viewers are handed over, in the middle of a frame, while it leaves.  Nobody
# hangs, everybody comes back at once and converges, and nothing is left over.  A group whose loop dies at each start backs off, refuses
# politely, and the others notice nothing.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time sleep);

my $s = Scenario->new(seats => 10, lighttpd => 0, heartbeat => '60m', linger => '150ms', poll_interval => '100ms', max_groups => 100, pg => { log_statement => 'none' });
my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my $BLOCKS = 120;
my $seed = $ENV{SEATCAST_SEED} // time % 100000;
srand $seed;
note("SEATCAST_SEED=$seed");
$s->sql("INSERT INTO blocks (id, section_id, name) SELECT i, 1, i FROM generate_series(1001, 1000 + $BLOCKS) AS i;
	INSERT INTO seats (id, block_id, row_number, seat_number) SELECT b * 100000 + n, b, 1, n FROM generate_series(1001, 1000 + $BLOCKS) AS b, generate_series(1, 300) AS n");
my $witness = $s->client('witness')->watch(1, 102)->expect_event('init');
$s->http(GET => '/readyz') for 1 .. 10;
my ($master) = $s->pids('master');
my %known = map { $_ => 1 } $s->pids('worker'), $s->pids('loop');
my $fds = $s->fds($master);
my $next_block = 1001;

# The master's children that we do not know: loops, from the moment they are forked.
my $children = -r "/proc/$master/task/$master/children" ? sub { return split ' ', Stage::slurp("/proc/$master/task/$master/children") } : sub { return map { $_->[0] } grep { $_->[1] == $master } Stage::processes() };
sub new_loops { return grep { !$known{$_} && Stage::slurp("/proc/$_/stat") =~ /\) [^ZX] / } $children->() }
sub kill_new { my @l = new_loops(); kill 'KILL', @l; $known{$_} = 1 for @l; return scalar @l }
sub change { my ($block) = @_;
	my ($r) = $s->sql("WITH w AS (INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, (ARRAY['HOLD', 'OCCUPIED'])[1 + floor(random() * 2)::int] FROM seats WHERE block_id = $block
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status RETURNING 1) SELECT count(*) FROM w");
	return;
}
my ($hung, $silent, $unserved, $wrong, $polite) = (0, 0, 0, 0, 0);
# Those who were there when it was killed: within 6 s each is cut, was told something, or is with the next loop.
sub expect_let_go {
	my ($what, @c) = @_;
	$s->wait_for(sub { !grep { !$_->{closed} && !$_->events } @c }, 6 * $slow);
	for my $c (grep { !$_->{closed} && !$_->events } @c) { $hung++; diag("$what: $c->{name} hangs: neither closed nor told anything") }
	$silent += grep { $_->{closed} && !defined $_->{status} } @c;
	$polite += grep { $_->events('busy') } @c;
	return;
}
# And back, and with the truth.
sub expect_back {
	my ($what, $block, @c) = @_;
	for my $c (@c) {
		next if !$c->{closed} && $c->events('init');
		if (!$s->wait_for(sub { $c->reconnect; $s->wait_for(sub { $c->events || $c->{closed} }, 3) && $c->events('init') }, 4 * $slow)) {
			$unserved++;
			diag("$what: $c->{name} is not served again; its last answer: ", $c->{status} // 'none', ' ', $c->{body} // '');
		}
	}
	my %db = map { @$_ } $s->sql("SELECT s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = $block");
	my $bad;
	my $right = sub {
		for my $c (@c) {
			$c->reconnect if $c->{closed};		# not all had noticed yet
			my @bad = grep { ($c->{seats}{$_} // '') ne $db{$_} } sort { $a <=> $b } keys %db;
			next if !@bad;
			$bad = "$c->{name}: " . @bad . " seats are wrong, the first: $bad[0] is " . ($c->{seats}{$bad[0]} // 'unknown') . " and should be $db{$bad[0]}";
			return 0;
		}
		return 1;
	};
	$s->wait_for($right, 4 * $slow) or do { $wrong++; diag("$what: $bad") };
	return;
}
sub leave {
	my (@c) = @_;
	$_->close for @c;
	@{$s->{clients}} = grep { my $c = $_; !grep { $c == $_ } @c } @{$s->{clients}};
	return;
}
my %moment = (
	'before it is ready' => sub {
		my ($block) = @_;
		my @c = map { $s->client("$block-$_")->watch(1, $block) } 1 .. 3;
		my $end = time + 2;
		until (new_loops() || time > $end) { }			# no waiting between: it is milliseconds
		sleep rand 0.006;
		return kill_new(), @c;
	},
	'while handing over' => sub {
		my ($block) = @_;
		my @c = $s->client("$block-0")->watch(1, $block);
		$s->wait_for(sub { $c[0]->events }, 3);
		my $at = 3 + int rand 20;
		my $killed = 0;
		for my $n (1 .. 25) {
			push @c, $s->client("$block-$n")->watch(1, $block);
			$killed = kill_new() if $n == $at;
		}
		return $killed, @c;
	},
	'in the middle of a frame' => sub {
		my ($block) = @_;
		my @c = map { $s->client("$block-$_")->watch(1, $block) } 1 .. 8;
		$s->wait_for(sub { !grep { !$_->events } @c }, 3);
		$_->stop_reading for @c[0 .. 3];
		change($block);
		sleep rand 0.12;					# polls come every 100 ms
		my $killed = kill_new();
		$_->resume_reading for @c;
		return $killed, @c;
	},
	'while leaving' => sub {
		my ($block) = @_;
		my $c = $s->client("$block-1")->watch(1, $block);
		$s->wait_for(sub { $c->events }, 3);
		$c->close;
		my $went = time;
		sleep 0.135 + rand 0.02;
		my @c = rand() < 0.5 ? map { $s->client("$block-$_")->watch(1, $block) } 2 .. 4 : ();
		my $killed = kill_new();
		push @c, map { $s->client("$block-$_")->watch(1, $block) } 5 .. 7;
		return $killed, @c;
	},
);
my ($crashes, $leaving) = (0, 0);
for my $what (sort keys %moment) {
	($hung, $silent, $unserved, $wrong, $polite) = (0) x 5;
	my ($killed, $viewers, $slowest) = (0, 0, 0);
	my $times = 16;
	for (1 .. $times) {
		my $block = $next_block++;
		my ($n, @c) = $moment{$what}->($block);
		$killed += $n;
		$viewers += @c;
		my $t = time;
		expect_let_go($what, @c);
		expect_back($what, $block, @c);
		$slowest = time - $t if time - $t > $slowest;
		$known{$_} = 1 for new_loops();
		leave(@c);
	}
	$crashes += $killed;
	$leaving = $killed if $what eq 'while leaving';		# one that was told to leave is no crash
	cmp_ok($killed, '>', $times / 5, "killed $what: $killed of $times times, $viewers viewers");
	is($hung, 0, '… nobody hangs');
	is($unserved, 0, '… everybody is served again at once');
	is($wrong, 0, '… with the truth');
	diag(sprintf '%-26s %3d kills, %4d viewers, back within %.2f s; cut without an answer: %d, told busy: %d', $what, $killed, $viewers, $slowest, $silent, $polite);
}
ok(!$witness->{closed}, 'the other block noticed nothing');
$s->expect_counter(loop_crashes => '>=', $crashes - $leaving);
cmp_ok($s->counter('loop_crashes'), '<=', $crashes, '… and no more than were killed');
$s->expect('all other loops leave', sub { $s->pids('loop') == 1 }, 10);
ok($s->wait_for(sub { $s->fds($master) <= $fds }, 5), 'no descriptor of the master is left over') or diag($s->fds($master) . " instead of $fds");
my $n;
ok($s->wait_for(sub { ($n) = map { $_->[0] } $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'"); $n <= 3 }, 8), 'no database connection either') or diag($n);
$s->expect_counter(viewers => 1)->expect_counter(connections => 1)->expect_counter(worker_restarts => 0);

# ---- a poison group ----

my ($forks, $asked, %told) = (0, 0);
my $began = time;
my @STATUS = qw(HOLD OCCUPIED AVAILABLE);
my ($worst, $rounds, $pending, $since) = (0, 0);
while (time - $began < 9) {
	my $c = $s->client('poisoned')->watch(1, 101);
	$asked++;
	$s->wait_for(sub { $forks += kill_new(); $c->events || $c->{closed} }, 3);
	my $how = $c->events('busy') ? 'busy' : $c->events('init') ? 'init' : $c->{closed} ? 'cut' : 'hung';
	$told{$how}++;
	push @{$told{retry}}, $c->{retry} if $how eq 'busy';
	$s->serve(0.01) while !$c->{closed} && $how ne 'hung' && !$forks;
	leave($c);
	if ($pending && $witness->{seats}{1000001} eq $pending) {
		$worst = time - $since if time - $since > $worst;
		undef $pending;
	}
	if (!$pending) {
		$pending = $STATUS[$rounds++ % 3];
		$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 1000001, '$pending') ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
		$since = time;
	}
	my $until = time + 0.05;
	while (time < $until) { $forks += kill_new(); $s->serve(0.005) }
}
diag(sprintf 'poison group: %d forks in 9 s, %d asked: %s', $forks, $asked, join ', ', map { "$_ $told{$_}" } grep { $_ ne 'retry' } sort keys %told);
ok($forks >= 3 && $forks <= 7, "a loop that dies at each start is started $forks times in 9 s");
is($told{hung} // 0, 0, '… nobody hangs');
cmp_ok($told{busy} // 0, '>', $asked / 2, '… most who ask are refused politely');
my @retry = sort { $a <=> $b } @{$told{retry} // [0]};
ok($retry[0] >= 10_000 && $retry[-1] <= 20_000 && $retry[-1] - $retry[0] > 3000, "… retry from $retry[0] to $retry[-1]");
is($s->http(GET => $s->snapshot_path(1, 101))->{status}, 503, '… a snapshot gets 503');
$s->in_time($worst, 0.2 + 0.4 * $slow, sprintf '… the other block: %d changes, each in %.0f ms at most', $rounds, 1000 * $worst);
ok(!$witness->{closed}, '… on the same connection');
$s->expect_counter(refused_crashing => '>=', 1)->expect_counter(worker_restarts => 0);
my $c = $s->client('cured');
my $t = time;
$s->expect('no longer poisoned: served again', sub { $c->watch(1, 101); $s->wait_for(sub { $c->events || $c->{closed} }, 3) && $c->events('init') }, 20);
ok(time - $t < 9, sprintf '… after %.1f s', time - $t);
$s->done;
