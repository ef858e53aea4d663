#!/usr/bin/env perl
# A day of trouble in twenty minutes: thousands of viewers that come and go behind lighttpd, hundreds of changes a second,
# and every ten seconds something breaks.  Afterwards nothing may have grown, nobody may have been shown anything wrong.
#
#	make soak				20 minutes, 50 blocks, 2,000 viewers, 100 of them leave each second, 500 changes a second
#	SOAK_SECONDS=120 SOAK_CHANGES=200 SOAK_VIEWERS=1000 SOAK_CHURN=50 SOAK_SEED=7 make soak		shorter, less, that run again
#	SOAK_FAULTS=loop-killed,exchange make soak		these only
#
# Viewers are bench/crowd.c, which says what it watches all the time; SOAK_OUT, or build/soak, gets report.txt (every fault with
# its second, every verdict with its figures), samples.tsv and report.svg.  Exit status 1: something was wrong.
#
# What is judged.  Memory is RssAnon.  Of each process that lived for a quarter of the time, a minute at least: the median of its
# last quarter against that of its second; more than 5 % and 192 KiB, the largest request, is growth.  Of each kind of process:
# the medians over all that lived in the run's second and last quarter; more than 5 % is growth (in less than ten minutes, when
# heaps still grow to their size, 192 KiB).  Descriptors, of a loop those that are not its viewers': no more at the last quiet
# moment than at the first.  Quiet moments: writers pause, and each viewer must show what the database has.  Delay: from before
# a change was sent to the database to when a viewer has it; judged is what no fault was near to (6 s), with five times the
# canary's lateness around it allowed, as tests do.
# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use IO::Socket::UNIX;
use IPC::Open2 qw(open2);
use List::Util qw(max min sum0 shuffle);
use Time::HiRes qw(time sleep);
use FastCGI;
use Stage;

$| = 1;
my $seconds = $ENV{SOAK_SECONDS} // 1200;
my $nviewers = $ENV{SOAK_VIEWERS} // 2000;
my $churn = $ENV{SOAK_CHURN} // 100;
my $changes = $ENV{SOAK_CHANGES} // 500;
my $seed = $ENV{SOAK_SEED} // int(time * 1000) % 1_000_000;
my ($FIRST, $BLOCKS, $SEATS) = (101, 50, 400);
my ($EVERY, $SAMPLE, $QUIET) = (10, 2, 6);		# a fault, a sample every so many seconds; each so-manieth time a quiet moment
my ($TOLERANCE, $GRAIN, $AFTER) = (1.05, 192, 6);	# KiB: what the largest request may leave in a heap
my @STATUS = qw(AVAILABLE HOLD OCCUPIED);
srand $seed;

my $stage = Stage->new(pg => { log_statement => 'none', max_connections => 300, synchronous_commit => 'on' });	# a crash loses nothing that was answered
my $out = $ENV{SOAK_OUT} // "$stage->{build}/soak";
mkdir $out;
my (@report, @samples, @delays, @events, %verdicts, $bad, $start);
my ($in_turn, $paused, $crowd, %writer, %beacon, %zombie, @zombies, %said);
my %now = (viewers => 0);

sub say_it { my $line = sprintf '%6.1f  %s', $start ? time - $start : 0, join '', @_; say $line; push @report, $line; return }
sub verdict { my ($ok, $says) = @_; $bad++ if !$ok; say_it($ok ? 'ok      ' : 'NOT OK  ', $says); return $ok }
sub median { my @s = sort { $a <=> $b } @_; return @s ? $s[$#s / 2] : 0 }
sub percentile { my ($p, @v) = @_; my @s = sort { $a <=> $b } @v; return @s ? $s[$p * $#s] : 0 }
sub pause { my ($s) = @_; $stage->wait_until(sub { 0 }, $s); return }

# ---- what goes on all the time: turn is called while anything waits ----

sub turn {
	return sleep 0.005 if $in_turn;
	$in_turn = 1;
	hear();
	write_changes() if $start;
	send_beacon() if $start;
	sample() if $start && time >= ($now{sample_at} // 0);
	$in_turn = 0;
	sleep 0.01;
	return;
}

sub ask_crowd { my ($line) = @_; local $SIG{PIPE} = 'IGNORE'; syswrite $crowd->{in}, "$line\n" or die "the viewers have gone\n"; return }

# Lines of the viewers' program.
sub hear {
	my $n = sysread $crowd->{out}, $crowd->{text}, 65536, length $crowd->{text};
	die "the viewers have ended\n" if defined $n && $n == 0;
	while ($crowd->{text} =~ s/\A(.*)\n//) {
		my ($word, @rest) = split ' ', my $line = $1;
		if ($word eq 'state') { %now = (%now, @rest) }
		elsif ($word eq 'compare') { $crowd->{compared} = \@rest }
		elsif ($word eq 'delay') {
			my $sent = $beacon{sent}{$rest[0]} // next;
			say_it("viewers: of $rest[1] and $rest[5] of block @{[$FIRST + $rest[0] % $BLOCKS]} the latter did not see within 8 s what was changed at @{[sprintf '%.1f', $sent - $start]}") if $rest[5];
			push @delays, { at => $sent, viewers => $rest[1], p50 => $rest[2], p99 => $rest[3], max => $rest[4], missing => $rest[5] };
		} else { say_it("viewers: $line") }
	}
	return;
}

# A session's answer, without waiting: 1 good, 0 failed, undef not yet.  A lost session is replaced later.
sub answer {
	my ($s) = @_;
	my $session = $s->{session};
	return undef if $session->{pid} && !$session->ready;
	return 1 if $session->{pid} && eval { $session->result(0.1); 1 };
	drop($s) if !$session->{pid} || $session->{lost};
	return 0;
}

sub drop { my ($s) = @_; (delete $s->{session})->kill; $s->{not_before} = time + 0.3; return }

sub session_of {
	my ($s) = @_;
	return undef if time < ($s->{not_before} // 0);
	return $s->{session} //= Session->new($stage->pg_bin('psql'), $stage->pg_conninfo, sub { $stage->wait_until(@_) });
}

sub write_changes {
	if ($writer{busy}) {
		my $ok = answer(\%writer) // return;
		$writer{busy} = 0;
		$ok ? ($writer{written} += $writer{rows}) : $writer{failed}++;
	}
	$writer{since} = time if $paused || !$writer{since};
	return if $paused;
	my $n = int((time - $writer{since}) * $changes);
	return if $n < $changes / 10;
	my $s = session_of(\%writer) // return;
	$writer{since} += $n / $changes;
	($n, $writer{since}) = ($changes, time) if $n > $changes;	# what an outage kept back is not made up for
	my %row;
	for (1 .. $n) {
		my $seat = 1 + $SEATS * int(rand $BLOCKS) + int rand $SEATS - 2;	# the last two of a block are others'
		my $status = $STATUS[$writer{is}[$seat] = (($writer{is}[$seat] // 0) + 1 + int rand 2) % 3];
		my $ends = $status eq 'HOLD' && rand() < 0.3 ? sprintf "now() AT TIME ZONE 'UTC' + interval '%d ms'", 1000 + rand 2000 : 'NULL';
		$row{$seat} = "(1, $seat, 7, '$status', $ends)";
	}
	$writer{rows} = keys %row;
	$writer{busy} = eval { $s->send('INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at) VALUES '
		. join(',', map { $row{$_} } sort { $a <=> $b } keys %row)
		. ' ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status, hold_expires_at = EXCLUDED.hold_expires_at'); 1 };
	if (!$writer{busy}) { drop(\%writer); $writer{failed}++ }
	return;
}

# A change whose way to the viewers is measured: twice a second, the last seat of the next block.
sub send_beacon {
	if ($beacon{busy}) {
		my $ok = answer(\%beacon) // return;
		$beacon{busy} = 0;
		ask_crowd("forget $beacon{n}") if !$ok;
	}
	return if $paused || time < ($beacon{next} // 0);
	my $s = session_of(\%beacon) // return;
	$beacon{next} = time + 0.5;
	my $block = $FIRST + ++$beacon{n} % $BLOCKS;
	my $status = $STATUS[$beacon{is}{$block} = (($beacon{is}{$block} // 0) + 1) % 3];
	my $seat = $SEATS * ($block - $FIRST + 1);
	$beacon{sent}{$beacon{n}} = time;
	ask_crowd("expect $beacon{n} $block @{[$SEATS - 1]} " . substr $status, 0, 1);
	$beacon{busy} = eval { $s->send("INSERT INTO allocations (match_id, seat_id, user_id, status) VALUES (1, $seat, 7, '$status')
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status"); 1 };
	if (!$beacon{busy}) { drop(\%beacon); ask_crowd("forget $beacon{n}") }
	return;
}

# ---- samples ----

# [pid, parent, group, state, title] of everything.
sub everything {
	my @found;
	for my $pid (map { m{(\d+)} } glob '/proc/[0-9]*') {
		my ($state, $parent, $group) = Stage::slurp("/proc/$pid/stat") =~ /.*\) (\S) (\d+) (\d+)/s or next;
		push @found, [$pid, $parent, $group, $state, Stage::slurp("/proc/$pid/cmdline") =~ tr/\0/ /r];
	}
	return @found;
}

sub fds { my ($pid) = @_; opendir my $d, "/proc/$pid/fd" or return undef; my @all = readdir $d; return @all - 2 }
sub kib { my ($pid) = @_; return (Stage::slurp("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m)[0] }

# One line for each process of ours: {pid, kind, name, kib, fds}.
sub family {
	my ($seatcast, $old, $lighttpd, $pg) = map { $stage->pid($_) // 0 } qw(seatcast old lighttpd postgresql);
	my (@family, $connections, %z);
	$connections = 0;
	for (everything()) {
		my ($pid, $parent, $group, $state, $title) = @$_;
		my $ours = grep { $_ && ($group == $_ || $parent == $_) } $seatcast, $old, $lighttpd, $pg;
		$z{$pid} = 1 if $ours && $state eq 'Z';
		$connections++ if $parent == $pg && $title =~ /^postgres: seatcast_/;
		my $kind = $seatcast && $group == $seatcast && $title =~ /^seatcast: (master|worker|loop)/ ? $1 : $pid == $lighttpd ? 'lighttpd' : next;
		my ($kib, $fds) = (kib($pid), fds($pid));
		push @family, { pid => $pid, kind => $kind, name => $title =~ s/^seatcast: |\s+$//gr, kib => $kib, fds => $fds } if defined $kib && defined $fds;
	}
	for my $pid (keys %z) { push @zombies, $pid if ($zombie{$pid} // 0) == 3 }	# not reaped for three samples
	%zombie = map { $_ => ($zombie{$_} // 0) + 1 } keys %z;
	return (\@family, $connections, scalar keys %z);
}

sub sample {
	$now{sample_at} = time + $SAMPLE;
	my ($family, $connections, $z) = family();
	ask_crowd('state');
	push @samples, { at => time, of => $family, connections => $connections, zombies => $z, live => $now{live} // 0, written => $writer{written} // 0 };
	return;
}

sub pids { my ($kind) = @_; my ($f) = family(); return map { $_->{pid} } grep { $_->{kind} eq $kind } @$f }
sub one { my ($kind) = @_; my @p = pids($kind); return @p ? $p[rand @p] : die "no $kind\n" }

# ---- faults ----

sub stopped { my ($pid, $s) = @_; kill 'STOP', $pid; pause($s); kill 'CONT', $pid; return }

sub bad_peers {
	my @bytes = (join('', map { chr int rand 256 } 1 .. 300), fcgi_begin(), '', substr(fcgi_request(path => '/healthz'), 0, 40),
		fcgi_request(path => '/api/matches/1/blocks/101/seats'), fcgi_record(FCGI_GET_VALUES, '', id => 0), fcgi_begin(role => 3),
		fcgi_request(method => 'POST', path => '/healthz', body => 'x' x 17000), fcgi_request(path => '/' . 'a' x 60000));
	my @peers = grep { $_ } map { IO::Socket::UNIX->new(Peer => $stage->{listen}) } 1 .. 60;
	local $SIG{PIPE} = 'IGNORE';
	for (@peers) { $_->blocking(0); syswrite $_, $bytes[rand @bytes] }
	for (splice @peers, 0, 20) { close $_ }		# some do not wait for an answer
	pause(3);
	return;
}

sub long_transaction {
	my $s = $stage->session;
	$s->query("BEGIN; INSERT INTO allocations (match_id, seat_id, user_id, status) SELECT 1, $SEATS * b - 1, 7, 'OCCUPIED' FROM generate_series(1, $BLOCKS) b
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = CASE allocations.status WHEN 'OCCUPIED' THEN 'HOLD' ELSE 'OCCUPIED' END");
	pause(7);
	$s->query('COMMIT');
	$s->kill;
	return;
}

sub locked {
	my $s = $stage->session;
	$s->query('BEGIN; LOCK TABLE allocations IN ACCESS EXCLUSIVE MODE');
	pause(2);
	$s->kill;
	return;
}

my @OPTIONS = (poll_interval => '1s', workers => 4, drain_timeout => '5s', linger => '60s', listen_mode => '0666');

# The next seatcast takes the path over while this one drains.
sub exchange {
	my $n = () = $stage->log_text('seatcast') =~ /draining: streams end/g;
	$stage->{proc}{old} = delete $stage->{proc}{seatcast};
	kill 'TERM', $stage->pid('old');
	$stage->wait_until(sub { $n < (() = $stage->log_text('seatcast') =~ /draining: streams end/g) }, 10);
	$stage->start_seatcast(@OPTIONS);
	my $status = $stage->wait_end('old', 30);
	verdict(defined $status && $status == 0, 'the old one drained and ended with 0');
	delete $stage->{proc}{old};
	return;
}

my %fault = (
	'loop-killed' => ['kill -9 of a loop', sub { kill 'KILL', one('loop') }],
	'worker-killed' => ['kill -9 of a worker', sub { kill 'KILL', one('worker') }],
	'loop-stopped' => ['a loop is stopped for 1 s', sub { stopped(one('loop'), 1) }],
	'worker-stopped' => ['a worker is stopped for 1 s', sub { stopped(one('worker'), 1) }],
	'master-stopped' => ['the master is stopped for 1 s', sub { stopped(one('master'), 1) }],
	'lighttpd-stopped' => ['lighttpd is stopped for 1 s', sub { stopped($stage->pid('lighttpd'), 1) }],
	'db-restart' => ['the database is restarted', sub { $stage->pg_stop('fast'); $stage->pg_start }],
	'db-crash' => ['the database dies and comes again', sub { $stage->pg_stop('immediate'); $stage->pg_start }],
	'db-terminated' => ['all database sessions of seatcast are terminated', sub {
		$stage->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'seatcast%'") }],
	'db-frozen' => ['the database is stopped for 1.5 s', sub { $stage->pg_freeze; pause(1.5); $stage->pg_thaw }],
	'table-locked' => ['the table is locked for 2 s', \&locked],
	'long-transaction' => ['a transaction stays open for 7 s, then commits', \&long_transaction],
	'table-rewritten' => ['VACUUM FULL of the table', sub { my $s = $stage->session; $s->query('VACUUM FULL allocations'); $s->kill }],
	'lighttpd-reload' => ['lighttpd reloads', sub { kill 'USR1', $stage->pid('lighttpd'); pause(3) }],
	'viewers-stall' => ['200 viewers stop reading for 5 s', sub { ask_crowd('stall 200 5000'); pause(5) }],
	'herd' => ['500 viewers leave and come again at once', sub { ask_crowd('herd 500') }],
	'bad-peers' => ['60 bad peers at the FastCGI socket', \&bad_peers],
	'exchange' => ['the program is exchanged for another', \&exchange],
);
my @list = grep { $_ ne 'exchange' } $ENV{SOAK_FAULTS} ? split(/,/, $ENV{SOAK_FAULTS}) : sort keys %fault;
my $exchange = !$ENV{SOAK_FAULTS} || $ENV{SOAK_FAULTS} =~ /exchange/;
$fault{$_} || die "no fault is called $_\n" for @list;

sub next_fault {
	if ($exchange && time - $start > $seconds / 2) { $exchange = 0; return 'exchange' }
	state @bag;
	@bag = shuffle(@list) if !@bag;
	return shift @bag;
}

sub break_something {
	my $name = next_fault() // return;
	my $e = { name => $name, says => $fault{$name}[0], from => time };
	push @events, $e;
	say_it("fault   $e->{says}");
	eval { $fault{$name}[1]->(); 1 } or verdict(0, "the fault itself went wrong: $@");
	$e->{to} = time;
	return;
}

# ---- quiet moments ----

# Descriptors that are not viewers', by process: those of a loop without its viewers.
sub spare_fds {
	my $c = FastCGI->connect($stage->{listen})->request(path => '/metrics')->answer;
	my %viewers = ($c->{body} // '') =~ /^seatcast_connections\{[^}]*block="(\d+)"[^}]*\} (\d+)/mg;
	my ($family) = family();
	my %spare;
	for (@$family) {
		next if $_->{kind} eq 'lighttpd';
		my ($block) = $_->{name} =~ m{^loop 1/(\d+)};
		push @{$spare{$_->{kind}}}, $_->{fds} - ($_->{kind} eq 'loop' ? $viewers{$block // ''} // 0 : 0);
	}
	return { map { $_ => median(@{$spare{$_}}) } keys %spare };
}

sub truth {
	my ($file) = @_;
	my @letter = ('A') x ($BLOCKS * $SEATS);
	$letter[$_->[0] - 1] = substr $_->[1], 0, 1 for $stage->sql("SELECT seat_id, CASE WHEN status = 'HOLD' AND hold_expires_at <= now() AT TIME ZONE 'UTC' THEN 'AVAILABLE' ELSE status END
		FROM allocations WHERE match_id = 1 AND seat_id <= $BLOCKS * $SEATS", 30);
	open my $fh, '>', $file or die "$file: $!";
	print $fh @letter;
	close $fh or die "$file: $!";
	return;
}

my @spare;
sub quiet_moment {
	$paused = 1;
	$stage->wait_until(sub { !$writer{busy} && !$beacon{busy} }, 30);
	my $e = { name => 'quiet', says => 'a quiet moment', from => time };
	push @events, $e;
	pause(4.5);			# the last holds end, and a poll or two
	truth("$stage->{dir}/truth");
	my ($first, $n, $different, $block);
	my $came = $stage->wait_until(sub {
		$crowd->{compared} = undef;
		ask_crowd("compare $stage->{dir}/truth");
		$stage->wait_until(sub { $crowd->{compared} }, 10) or return 0;
		($n, $different, $block) = @{$crowd->{compared}};
		$first //= $different;
		return $n >= 0.9 * $nviewers && $different == 0 || do { pause(0.5); 0 };
	}, 25);
	verdict($came, sprintf 'quiet: %d of %d viewers are there, %d show something else than the database (at first %d)%s',
	    $n // 0, $nviewers, $different // -1, $first // -1, $different ? ", one of them of block $block" : '');
	push @spare, spare_fds();
	$e->{to} = time;
	$paused = 0;
	return;
}

# ---- the run ----

say_it("seed $seed: $seconds s, $nviewers viewers of $BLOCKS blocks, $churn leave each second, $changes changes a second");
$stage->spawn('canary', [$^X, "$stage->{src}/t/lib/canary.pl"]);
$stage->pg_start->pg_install(demo => 1);
$stage->sql('TRUNCATE allocations');
$stage->{pg_conf}{max_wal_size} = '256MB';
$stage->start_seatcast(@OPTIONS);
$stage->start_lighttpd;
$crowd = { text => '' };
$crowd->{pid} = open2($crowd->{out}, $crowd->{in}, "$stage->{build}/bench/crowd", $stage->{port}, $nviewers, "$FIRST:$BLOCKS", $SEATS, $churn, $seed,
	'/api/matches/1/blocks/%d/seats/status-stream');
$crowd->{out}->blocking(0);
$stage->{tick} = \&turn;
$start = time;
my $came = $stage->wait_until(sub { ($now{live} // 0) >= 0.95 * $nviewers }, 60);
verdict($came, "all viewers are there after @{[sprintf '%.1f', time - $start]} s");
my $slot = 0;
while (time - $start < $seconds) {
	my $began = time;
	my $last = $seconds - (time - $start) < 1.5 * $EVERY;
	if (++$slot % $QUIET == 0 || $last) { quiet_moment() } else { break_something() }
	last if $last;
	pause(max(0.1, $began + $EVERY - time));
}
my $took = time - $start;
sample();
pause(0.5);

# ---- the verdict ----

my $lateness = sub {
	my ($at, $until) = @_;
	return max(0, map { (split / /)[1] } grep { my ($woke) = split / /; $woke >= $at - 0.5 && $woke <= $until + 0.5 } @{$now{canary}});
};
$now{canary} = [$stage->log_text('canary') =~ /^([\d.]+ [\d.]+)$/mg];

sub in_part { my ($from, $to) = @_; return grep { $_->{at} - $start >= $from * $took && $_->{at} - $start < $to * $took } @samples }

sub judge_kinds {
	for my $kind (qw(master worker loop)) {
		my ($second, $last) = map { median(map { $_->{kib} } grep { $_->{kind} eq $kind } map { @{$_->{of}} } in_part(@$_)) } [0.25, 0.5], [0.75, 1.01];
		verdict($second && $last && $last <= max($second * $TOLERANCE, $took < 600 ? $second + $GRAIN : 0), sprintf 'memory of a %s: %d KiB in the second quarter, %d in the last (%+.1f %%)',
		    $kind, $second, $last, $second ? 100 * ($last - $second) / $second : 0);
	}
	return;
}

sub judge_lives {
	my (%life, @grew);
	for my $s (@samples) { push @{$life{"$_->{pid} $_->{kind}"}}, $_ for @{$s->{of}} }
	my $judged = 0;
	for my $key (sort keys %life) {
		my @l = @{$life{$key}};
		next if $key =~ /lighttpd/ || @l * $SAMPLE < max(60, $took / 4);
		$judged++;
		my ($second, $last) = (median(map { $_->{kib} } @l[@l / 4 .. @l / 2 - 1]), median(map { $_->{kib} } @l[@l * 3 / 4 .. $#l]));
		push @grew, sprintf '%s (pid %d) %d to %d KiB', $l[-1]{name}, $l[-1]{pid}, $second, $last if $last > max($second * $TOLERANCE, $second + $GRAIN);
	}
	verdict(!@grew, sprintf '%d processes lived long: %d grew%s', $judged, scalar @grew, @grew ? ': ' . join('; ', @grew[0 .. min(5, $#grew)]) : '');
	return;
}

judge_kinds();
judge_lives();
if (@spare >= 2) {
	for my $kind (qw(master worker loop)) {
		my ($first, $last) = ($spare[0]{$kind} // 0, $spare[-1]{$kind} // 0);
		verdict($last <= $first + 2, "descriptors of a $kind" . ($kind eq 'loop' ? ', its viewers aside' : '') . ": $first at the first quiet moment, $last at the last");
	}
}
my ($c2, $c4) = map { median(map { $_->{connections} } in_part(@$_)) } [0.25, 0.5], [0.75, 1.01];
verdict($c2 && $c4 <= $c2 * $TOLERANCE, "database connections: $c2 in the second quarter, $c4 in the last, never more than " . max(map { $_->{connections} } @samples));
verdict(!@zombies, 'no zombie' . (@zombies ? ": pids @zombies" : ''));
verdict(($now{odd} // 1) == 0, "viewers were shown nothing wrong: $now{events} updates, $now{inits} inits, $now{resumed} returned with an id");
verdict(($now{stopped_asking} // 1) == 0, "no answer after which a browser does not ask again: $now{busy} were told busy, $now{ended} streams ended in order, $now{cut} were cut, $now{stopped_asking} got another status");
verdict(!$stage->ended('seatcast'), 'it runs');
my @log = grep { !/database|poll/ } $stage->log_text('seatcast') =~ /^(.*(?:AddressSanitizer|LeakSanitizer|runtime error:|must: |\bfatal\b).*)$/mg;
verdict(!@log, 'the log is clean' . (@log ? ": $log[0]" : ''));
my @clear = grep { my $d = $_; $d->{viewers} && !grep { $_->{name} ne 'quiet' && $d->{at} > $_->{from} - 1.5 && $d->{at} < $_->{to} + $AFTER } @events } @delays;
my $late = 5 * $lateness->($start, time);
my @p99 = map { $_->{p99} } @clear;
my @too_late = grep { $_->{max} > 1100 + 5000 * $lateness->($_->{at} - 10, $_->{at} + 2) } @clear;
my @missing = grep { $_->{missing} } @delays;
verdict(!@too_late, sprintf 'delay of %d changes with no fault near: median %.0f ms, p99 %.0f ms, at most %.0f ms; %d took longer than a poll and 100 ms (the machine woke a sleeper up to %.0f ms late)',
    scalar @clear, median(map { $_->{p50} } @clear), percentile(0.99, @p99), max(0, map { $_->{max} } @clear), scalar @too_late, 200 * $late);
verdict(!@missing, sprintf 'of %d changes in all, %d did not reach someone who was there within 8 s', scalar @delays, scalar @missing);
say_it(sprintf '%d changes written (%.0f a second), %.0f updates a second shown, %d faults, %s', $writer{written}, $writer{written} / $took, $now{events} / $took,
    scalar(grep { $_->{name} ne 'quiet' } @events), $bad ? "$bad verdicts are bad" : 'all is well');

# ---- the picture ----

# The points of a line, without those in the middle of a level stretch.
sub corners {
	my @p = @_;
	return map { "$p[$_][0],$p[$_][1]" } grep { $_ == 0 || $_ == $#p || $p[$_][1] != $p[$_ - 1][1] || $p[$_][1] != $p[$_ + 1][1] } 0 .. $#p;
}

# Panels below each other, one time axis; each: title, unit, [name, colour, [x, y] …].
sub svg {
	my @panels = @_;
	my ($w, $h, $left, $gap) = (960, 120, 60, 34);
	my $x = sub { $left + ($w - $left - 130) * $_[0] / $took };
	my $height = 40 + @panels * ($h + $gap) + 30 + 14 * int((1 + keys %fault) / 2);
	my $svg = qq{<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 $w $height" font-family="sans-serif" font-size="11">\n<rect width="$w" height="$height" fill="#fff"/>\n};
	$svg .= qq{<text x="8" y="18" font-size="13">$nviewers viewers of $BLOCKS blocks, $churn come and go and $changes seats change each second, seed $seed: } . ($bad ? "$bad verdicts are bad" : 'all is well') . "</text>\n";
	my @kinds = grep { my $k = $_; grep { $_->{name} eq $k } @events } sort keys %fault;
	my %letter = map { $kinds[$_] => chr(ord('a') + $_) } 0 .. $#kinds;
	my $y0 = 40;
	for my $p (@panels) {
		my ($title, $unit, @lines) = @$p;
		my $top = max(1, map { $_->[1] } map { @{$_->[2]} } @lines);
		my $step = 10 ** int(log($top) / log(10));
		$step /= 2 while $top / $step < 3;
		my $y = sub { $y0 + $h - $h * $_[0] / ($top * 1.05) };
		$svg .= sprintf qq{<text x="8" y="%d" font-weight="bold">%s</text>\n}, $y0 - 4, $title;
		for (my $v = 0; $v <= $top; $v += $step) {
			$svg .= sprintf qq{<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>\n}, $left, $y->($v), $x->($took), $left - 4, $y->($v) + 4, $v;
		}
		for my $e (@events) {
			my $at = $x->($e->{from} - $start);
			$svg .= sprintf qq{<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>\n}, $at, $y0, max(0.7, $x->(($e->{to} // $e->{from}) - $start) - $at), $h, $e->{name} eq 'quiet' ? '#e8f2e4' : '#f6d5cc';
			$svg .= sprintf qq{<text x="%.1f" y="%d" font-size="8" fill="#a33">%s</text>\n}, $at, $y0 + 8, $letter{$e->{name}} if $letter{$e->{name}} && $p == $panels[0];
		}
		my $n = 0;
		for (@lines) {
			my ($name, $colour, $points, $dots) = @$_;
			$svg .= $dots ? qq{<path stroke="$colour" stroke-width="2.6" stroke-linecap="round" d="} . join('', map { sprintf 'M%.0f %.0fh0', $x->($_->[0]), $y->($_->[1]) } @$points) . qq{"/>\n}
			    : qq{<polyline fill="none" stroke="$colour" stroke-width="1.2" points="} . join(' ', corners(map { [sprintf('%.0f', $x->($_->[0])), sprintf('%.0f', $y->($_->[1]))] } @$points)) . qq{"/>\n};
			$svg .= sprintf qq{<text x="%d" y="%d" fill="%s">%s</text>\n}, $x->($took) + 6, $y0 + 10 + 14 * $n++, $colour, $name;
		}
		$y0 += $h + $gap;
	}
	for (my $t = 0; $t <= $took; $t += $took > 400 ? 120 : $took > 150 ? 30 : 10) {
		$svg .= sprintf qq{<text x="%.1f" y="%d" text-anchor="middle">%d s</text>\n}, $x->($t), $y0 - 20, $t;
	}
	for my $i (0 .. $#kinds) {
		my $times = grep { $_->{name} eq $kinds[$i] } @events;
		$svg .= sprintf qq{<text x="%d" y="%d"><tspan fill="#a33">%s</tspan> %s%s</text>\n}, $left + ($i % 2) * 420, $y0 + 4 + 14 * int($i / 2), $letter{$kinds[$i]}, $fault{$kinds[$i]}[0], $times == 1 ? '' : ", $times times";
	}
	return "$svg</svg>\n";
}

sub line { my ($name, $colour, $value) = @_; return [$name, $colour, [map { my $v = $value->($_); defined $v ? [$_->{at} - $start, $v] : () } @samples]] }
sub of_kind { my ($kind, $what) = @_; return sub { my @v = map { $_->{$what} } grep { $_->{kind} eq $kind } @{$_[0]{of}}; return @v ? median(@v) : undef } }
sub all_of { my ($what) = @_; return sub { return sum0(map { $_->{$what} } grep { $_->{kind} ne 'lighttpd' } @{$_[0]{of}}) } }

sub put { my ($name, $text) = @_; open my $fh, '>', "$out/$name" or die "$out/$name: $!"; print $fh $text; close $fh or die "$out/$name: $!"; return }
my $whole = all_of('kib');
put('report.svg', svg(
	['memory of a process (RssAnon, median), KiB', 'KiB', line('loop', '#2f6f9f', of_kind('loop', 'kib')), line('worker', '#d98c3f', of_kind('worker', 'kib')), line('master', '#7a4f9a', of_kind('master', 'kib'))],
	['memory of all processes, MiB', 'MiB', line('seatcast', '#2f6f9f', sub { $whole->(@_) / 1024 }), line('lighttpd', '#888', sub { my $v = of_kind('lighttpd', 'kib')->(@_); defined $v ? $v / 1024 : undef })],
	['descriptors', '', line('seatcast, all', '#2f6f9f', all_of('fds')), line('lighttpd', '#888', of_kind('lighttpd', 'fds')), line('viewers', '#4a9a4a', sub { $_[0]{live} })],
	['processes and database connections', '', line('loops', '#2f6f9f', sub { scalar grep { $_->{kind} eq 'loop' } @{$_[0]{of}} }), line('connections', '#d98c3f', sub { $_[0]{connections} }), line('zombies', '#c00', sub { $_[0]{zombies} })],
	['delay from a change to its viewers, ms (over 3,000: at the top)', 'ms', ['the last viewer', '#d98c3f', [map { [$_->{at} - $start, min(3000, $_->{max})] } grep { $_->{viewers} } @delays], 1], ['median', '#2f6f9f', [map { [$_->{at} - $start, min(3000, $_->{p50})] } grep { $_->{viewers} } @delays], 1]],
));
put('samples.tsv', join '', "second\tlive\tconnections\tzombies\twritten\tprocess\tpid\tKiB\tdescriptors\n", map { my $s = $_; map { join("\t", sprintf('%.1f', $s->{at} - $start), @$s{qw(live connections zombies written)}, @$_{qw(name pid kib fds)}) . "\n" } @{$s->{of}} } @samples);
put('report.txt', join '', map { "$_\n" } @report);
say "report: $out/report.txt, $out/report.svg";
kill 'KILL', $crowd->{pid};
waitpid $crowd->{pid}, 0;
$_->{session} && $_->{session}->kill for \%writer, \%beacon;
my @failures = $stage->strike;
say "NOT OK  $_" for @failures;
exit($bad || @failures ? 1 : 0);
