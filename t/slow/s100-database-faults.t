#!/usr/bin/env perl
# SPEC 2 and ARCHITECTURE 4: whatever happens to the database, viewers keep their connection, hear stale after 3 s if it lasts, and when it
# is over the missed updates and then fresh, without help.  The log says once what is wrong and once that it is over; no busy loop, no storm
# of connections, none leaked.  One row per fault; arguments choose rows by name.  Failover: s110.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario;
use IO::Select; use IO::Socket::INET; use IO::Socket::UNIX; use Socket; use Time::HiRes qw(time sleep);

my $CONNECTIONS = 30;
my $s = Scenario->new(seats => 40, lighttpd => 0, heartbeat => '60m', start => 0,
	pg => { listen_addresses => '127.0.0.1', max_connections => $CONNECTIONS, log_connections => 'on', log_statement => 'none' });
my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my $round = 0;
my @STATUS = qw(HOLD OCCUPIED AVAILABLE);

# ---- what the rows are made of ----

sub admin { my ($sql) = @_; return $s->sql($sql) }
sub set_seats {			# to a status; one transaction
	my ($status, @seats) = @_;
	my $in = join ', ', @seats;
	admin("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, '$status' FROM seats WHERE id IN ($in)
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	return;
}
# What viewers miss: ten seats go through another state to the one of this round, one of the other block too.
sub write_missed {
	set_seats($STATUS[($round + 1) % 3], 101 .. 110);
	set_seats($STATUS[$round % 3], 101 .. 110, 1000001);
	return;
}
sub shut_out { admin('ALTER ROLE seatcast_writer NOLOGIN') }	# so that seatcast is not back before we have written
sub let_in { admin('ALTER ROLE seatcast_writer LOGIN') }
sub wait_for_pg { $s->wait_for(sub { $s->{stage}->hang_up; eval { admin('SELECT 1'); 1 } }, 30) or die "PostgreSQL does not come back\n" }
sub loop_backend {
	my ($r) = admin("SELECT pid FROM pg_stat_activity WHERE application_name = 'seatcast' AND state = 'idle' AND query LIKE '%seatcast.changes%' AND query NOT LIKE '%block_exists(0, 0)%' AND query NOT LIKE '%pg_stat%'
		ORDER BY pid LIMIT 1");
	return $r->[0] // die "the loop has no backend\n";
}
# Replace changes() and snapshot() by functions that first do something else.
sub spoil {
	my ($plpgsql) = @_;
	admin(join '', map { my ($name, $args, $call) = @$_; <<~SQL } ['changes', 'match_id bigint, block_id bigint, cursor text', '$1, $2, $3'], ['snapshot', 'match_id bigint, block_id bigint', '$1, $2']);
		ALTER FUNCTION seatcast.$name RENAME TO ${name}_kept;
		CREATE FUNCTION seatcast.$name($args)
		RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz) LANGUAGE plpgsql AS \$\$
		BEGIN $plpgsql; RETURN QUERY SELECT * FROM seatcast.${name}_kept($call); END \$\$;
		GRANT EXECUTE ON FUNCTION seatcast.$name TO seatcast_reader, seatcast_writer;
		SQL
	return;
}
sub unspoil {
	admin(join '', map { "DROP FUNCTION seatcast.$_; ALTER FUNCTION seatcast.${_}_kept RENAME TO $_; " } qw(changes snapshot));
	return;
}
# Take every connection that an ordinary role may have; returns the sockets.
sub take_all_connections {
	my @held;
	for (1 .. $CONNECTIONS + 5) {
		my $c = IO::Socket::UNIX->new(Peer => $s->dir . "/pg/.s.PGSQL.$s->{stage}{pg_port}") or last;
		my $body = pack('N', 196608) . "user\0hog\0database\0seatcast\0application_name\0hog\0\0";
		syswrite $c, pack('N', 4 + length $body) . $body;
		my $got = '';
		1 while IO::Select->new($c)->can_read(5) && sysread($c, $got, 4096, length $got) && $got !~ /Z\x00\x00\x00\x05I\z/ && $got !~ /\AE/;
		last if $got !~ /Z\x00\x00\x00\x05I\z/;
		push @held, $c;
	}
	return @held;
}

# A TCP proxy to PostgreSQL.  SIGUSR1: from now on nothing passes and nothing is closed, on new connections either.  SIGUSR2: new
# connections pass, the old ones never again: PostgreSQL has given them up by then, seatcast hears nothing of it.
package Proxy {
	use IO::Socket::INET;
	sub new {
		my ($class, $port) = @_;
		my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 100) or die "proxy: $!";
		my $pid = fork // die "fork: $!";
		run($listen, $port) if !$pid;
		return bless { pid => $pid, port => $listen->sockport }, $class;
	}
	sub run {
		my ($listen, $port) = @_;
		my ($hole, %peer, %dead, %server) = (0);
		local $SIG{USR1} = sub { $hole = 1; $dead{$_} = 1 for keys %peer };
		local $SIG{USR2} = sub { $hole = 0; shutdown $_, 2 for values %server };
		local $SIG{PIPE} = 'IGNORE';
		local $SIG{TERM} = 'DEFAULT';
		my @kept;
		my $parent = getppid;
		my $set = IO::Select->new($listen);
		while (getppid == $parent) {
			for my $fh ($set->can_read(0.2)) {
				if ($fh == $listen) {
					my $in = $listen->accept or next;
					if ($hole) { push @kept, $in; next }
					my $out = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or do { close $in; next };
					($peer{$in}, $peer{$out}) = ($out, $in);
					$server{$out} = $out;
					$set->add($in, $out);
				} elsif ($dead{$fh}) {
					$set->remove($fh);
					push @kept, $fh;
				} elsif (!$peer{$fh}) {
					next;		# closed with its peer, a moment ago
				} elsif (!sysread $fh, my $bytes, 65536) {
					my $other = delete $peer{$fh};
					delete $peer{$other};
					delete @server{$fh, $other};
					$set->remove($fh, $other);
					close $_ for $fh, $other;
				} else {
					syswrite $peer{$fh}, $bytes;
				}
			}
		}
		POSIX::_exit(0);
	}
	sub signal { my ($self, $name) = @_; kill $name, $self->{pid} }
	sub stop { my ($self) = @_; kill 'KILL', $self->{pid}; waitpid $self->{pid}, 0 }
}

# ---- the rows ----
# begin makes the fault, end ends it.  lasts: seconds between.  stale: 1 it comes, 0 it does not, undef it may (too short to say).
# down: nothing can be written meanwhile, begin or end does it.  one: only one loop notices.  by: recovers so many seconds after the beginning, before
# the end.
# wrong, over: what the log says, once per loop.  attempts: most connections per process that may be tried.

my ($backend, @held, $proxy, $terminator);
my $LOST = qr/database: lost: /;
my $BACK = qr/database: back after /;
my @FAULTS = (
	{ name => 'fast stop', lasts => 5, stale => 1, down => 1, wrong => $LOST, over => $BACK, attempts => 10,
		begin => sub { shut_out(); $s->pg_stop('fast') }, end => sub { $s->pg_start; write_missed(); let_in() } },
	{ name => 'immediate stop', lasts => 10, stale => 1, down => 1, wrong => $LOST, over => $BACK, attempts => 14,
		begin => sub { shut_out(); $s->pg_stop('immediate') }, end => sub { $s->pg_start; write_missed(); let_in() } },
	{ name => 'backend kill -9', lasts => 0, stale => undef, down => 1, wrong => $LOST, over => $BACK, attempts => 8,
		begin => sub { kill 'KILL', loop_backend() }, end => sub { sleep 0.1; wait_for_pg(); write_missed() } },
	{ name => 'backend stopped', lasts => 10, stale => 1, one => 1, by => 9, wrong => $LOST, over => $BACK, attempts => 4,
		begin => sub { $backend = loop_backend(); kill 'STOP', $backend }, end => sub { kill 'CONT', $backend } },
	{ name => 'server frozen', lasts => 10, stale => 1, down => 1, wrong => $LOST, over => $BACK, attempts => 6,
		begin => sub { shut_out(); $s->pg_freeze }, end => sub { $s->pg_thaw; write_missed(); let_in() } },
	{ name => 'cut without FIN', lasts => 10, stale => 1, wrong => $LOST, over => $BACK, attempts => 6, proxy => 1,
		begin => sub { $proxy->signal('USR1') }, end => sub { $proxy->signal('USR2') } },
	{ name => 'cut, new ones pass', lasts => 10, stale => 1, by => 9, wrong => $LOST, over => $BACK, attempts => 4, proxy => 1,
		begin => sub { $proxy->signal('USR1'); sleep 0.1; $proxy->signal('USR2'); write_missed() }, down => 1, end => sub { } },
	{ name => 'terminate loop', lasts => 5, stale => undef, wrong => $LOST, over => $BACK, attempts => 15,
		begin => sub { $terminator = $s->session; $terminator->send("DO \$\$ BEGIN FOR i IN 1 .. 100 LOOP
			PERFORM pg_stat_clear_snapshot(); PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'seatcast';
			PERFORM pg_sleep(0.05); END LOOP; END \$\$") }, end => sub { $terminator->result(20); $terminator->kill } },
	{ name => 'too many connections', lasts => 8, stale => 1, wrong => $LOST, over => $BACK, attempts => 12,
		begin => sub { shut_out(); admin("SELECT pg_terminate_backend(pid, 3000) FROM pg_stat_activity WHERE application_name = 'seatcast'"); @held = take_all_connections(); let_in();
			cmp_ok(scalar @held, '>', 10, 'all connections are taken: ' . @held) },
		end => sub { close $_ for splice @held } },
	{ name => 'permission revoked', lasts => 6, stale => 1, wrong => qr/poll: permission denied/, over => qr/poll: good again/, attempts => 0,
		begin => sub { admin('REVOKE USAGE ON SCHEMA seatcast FROM seatcast_writer, seatcast_reader') },
		end => sub { admin('GRANT USAGE ON SCHEMA seatcast TO seatcast_writer, seatcast_reader') } },
	{ name => 'login revoked', lasts => 6, stale => 1, wrong => $LOST, over => $BACK, attempts => 10,
		begin => sub { shut_out(); admin("SELECT pg_terminate_backend(pid, 3000) FROM pg_stat_activity WHERE application_name = 'seatcast'") }, end => sub { let_in() } },
	{ name => 'function missing', lasts => 6, stale => 1, wrong => qr/poll: function seatcast\.changes\(.*42883/, over => qr/poll: good again/, attempts => 0,
		begin => sub { admin('ALTER FUNCTION seatcast.changes RENAME TO changes_gone') },
		end => sub { admin('ALTER FUNCTION seatcast.changes_gone RENAME TO changes') } },
	{ name => 'statement timeout', lasts => 7, stale => 1, wrong => qr/poll: canceling statement due to statement timeout.*57014/, over => qr/poll: good again/, attempts => 0,
		before => sub { admin("ALTER ROLE seatcast_writer SET statement_timeout = '1s'") },
		begin => sub { spoil('PERFORM pg_sleep(60)') }, end => sub { unspoil() },
		after => sub { admin("ALTER ROLE seatcast_writer SET statement_timeout = '4s'") } },
	{ name => 'slower than any timeout', lasts => 12, stale => 1, wrong => qr/$LOST|poll: canceling statement/, over => qr/$BACK|poll: good again/, attempts => 6,
		begin => sub { spoil('PERFORM pg_sleep(60)') }, end => sub { unspoil() } },
	{ name => 'error: disk full', lasts => 6, stale => 1, wrong => qr/poll: could not write to file "base\/x": No space left on device.*53100/, over => qr/poll: good again/, attempts => 0,
		begin => sub { spoil(q{RAISE EXCEPTION 'could not write to file "base/x": No space left on device' USING ERRCODE = '53100'}) }, end => sub { unspoil() } },
);

# ---- one row ----

sub cpu { my ($pid) = @_; my @f = split / /, (Stage::slurp("/proc/$pid/stat") =~ s/.*\) //sr); return ($f[11] + $f[12]) / 100 }
sub connections { my ($r) = admin("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'"); return $r->[0] }
sub attempts {			# connections that PostgreSQL has seen from seatcast
	my ($log) = @_;
	my $received = () = $log =~ /LOG:  connection received/g;
	my $ours = () = $log =~ /connection authorized: user=(?:postgres|hog) /g;
	return $received - $ours;
}
sub expected {
	my %db = map { @$_ } admin("SELECT s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = $_[0]");
	return \%db;
}
sub seen { my ($c, $type, $from) = @_; return (grep { $_->{type} eq $type } @{$c->{events}}[$from->{$c} .. $#{$c->{events}}])[0] }

my @table;
sub run_fault {
	my ($f) = @_;
	$round++;
	($f->{before} // sub {})->();
	$proxy = Proxy->new($s->{stage}{pg_port}) if $f->{proxy};
	my $database = $f->{proxy} ? $s->pg_conninfo(host => '127.0.0.1', port => $proxy->{port}, user => 'seatcast_writer') : undef;
	$s->start_seatcast(defined $database ? (database => $database) : ());
	my @c = map { $s->client("$f->{name}: viewer $_")->watch(1, $_ < 4 ? 101 : 102)->expect_event('init') } 1 .. 4;
	$s->http(GET => '/readyz') for 1 .. 8;		# the workers connect
	$s->pass_time(0.5);
	my %loop = map { $_ => ($s->pids("loop 1/$_"))[0] } 101, 102;
	my %fd = map { $_ => fileno $_->{fh} } @c;
	my %from = map { $_ => scalar @{$_->{events}} } @c;
	my ($connections, $losses) = (connections(), $s->counter('database_losses'));
	my %fds = map { $_ => $s->fds($loop{$_}) } keys %loop;
	my $log_at = length $s->log_text('seatcast');
	my $pg_at = length $s->log_text('postgresql');
	my %cpu = map { $_ => cpu($loop{$_}) } keys %loop;

	my $began = time;
	$f->{begin}->();
	write_missed() if !$f->{down};
	$s->pass_time(0.05) while time - $began < $f->{lasts};
	my $cpu = 0;
	$cpu += cpu($loop{$_}) - $cpu{$_} for keys %loop;
	my $lasted = time - $began;
	my $attempts_during = attempts(substr $s->log_text('postgresql'), $pg_at);
	$f->{end}->();
	my $over = time;

	# Everything comes back by itself.
	my %want = (101 => expected(101), 102 => expected(102));
	my $stuck;
	my $same = sub {
		for my $c (@c) {
			my $want = $want{$c == $c[3] ? 102 : 101};
			my @bad = grep { ($c->{seats}{$_} // '') ne $want->{$_} } sort { $a <=> $b } keys %$want;
			$stuck = "$c->{name}: " . join ', ', map { "seat $_ " . ($c->{seats}{$_} // 'unknown') . " instead of $want->{$_}" } @bad[0 .. ($#bad < 3 ? $#bad : 3)];
			return 0 if @bad;
			$stuck = "$c->{name}: stale and no fresh";
			return 0 if seen($c, 'stale', \%from) && !seen($c, 'fresh', \%from);
		}
		return 1;
	};
	ok($s->wait_for($same, 10 * $slow), "$f->{name}: all converge, nothing lost") or diag("after @{[time - $over]} s: $stuck");
	my $recovered = time;
	my $last = (sort { $b <=> $a } map { my $e = seen($_, 'fresh', \%from); $e ? $e->{at} : () } @c)[0] // $recovered;

	cmp_ok($last - $began, '<', $f->{by} * $slow, sprintf '… without waiting for the end of it: %.1f s after the beginning', $last - $began) if $f->{by};

	# The viewers.
	is(scalar(grep { $_->{closed} || fileno $_->{fh} != $fd{$_} } @c), 0, '… on the connections they had');
	is(scalar(map { $_->events('init') } @c), 4, '… without another init');
	my %told = map { $_ => join ' ', map { $_->{type} } grep { $_->{type} ne 'update' } @{$_->{events}}[$from{$_} .. $#{$_->{events}}] } @c;
	my @stale = grep { $told{$_} =~ /stale/ } @c;
	my @affected = $f->{one} ? @stale : @c;
	my $stale_after = @stale ? (sort { $a <=> $b } map { seen($_, 'stale', \%from)->{at} } @stale)[0] - $began : undef;
	if ($f->{stale}) {
		cmp_ok(scalar @affected, '>', 0, '… who are told');
		is($told{$_}, 'stale fresh', "$_->{name}: stale once, fresh once") for @affected;
		ok(defined $stale_after && $stale_after > 2.6 && $stale_after < 3.4 + 0.8 * $slow, sprintf '… stale after %.2f s', $stale_after // -1);
		for my $c (@affected) {
			my @types = map { $_->{type} } @{$c->{events}}[$from{$c} .. $#{$c->{events}}];
			like(join(' ', @types), qr/\A(?:update )*stale(?: update)+ fresh\b/, "$c->{name}: missed updates, then fresh") or diag("got: @types");
		}
	} elsif (defined $f->{stale}) {
		is(scalar @stale, 0, '… nobody is told: it was too short');
	} else {
		like($told{$_}, qr/\A(?:stale fresh(?: |\z))*\z/, "$_->{name}: every stale is followed by a fresh") for @c;
	}

	# The log.
	my @lines;			# it may say that it is over once it trusts the new connection
	my $log_lines = sub { my ($n) = @_; return grep { m{loop 1/$n: } } @lines = split /\n/, substr $s->log_text('seatcast'), $log_at };
	$s->wait_for(sub { !grep { my @l = $log_lines->($_); @l && $l[-1] !~ $f->{over} } 101, 102 }, 5);
	$s->pass_time(0.3);
	$log_lines->(101);
	my @loops = $f->{one} ? grep { my $n = $_; grep { /loop 1\/$n: / } @lines } 101, 102 : (101, 102);
	is(scalar @loops, 1, '… one loop has something to say') if $f->{one};
	my ($said, $said_over) = (0, 0);
	for my $n (@loops) {
		my @l = grep { m{loop 1/$n: } } @lines;
		my @wrong = grep { $_ =~ $f->{wrong} } @l;
		my @over = grep { $_ =~ $f->{over} } @l;
		($said, $said_over) = ($said + @wrong, $said_over + @over);
		ok(@wrong == 1 && @over == 1 && @l == 2, "loop 1/$n: the log says what is wrong and that it is over, once each") or diag(@l . ' lines; what is wrong: ' . @wrong . ', over: ' . @over . "\n", map { "  $_\n" } @l > 6 ? (@l[0 .. 5], '…') : @l);
	}
	my @workers = grep { / worker: / } @lines;
	cmp_ok(scalar @workers, '<=', 4, '… and no more by two workers') or diag(scalar(@workers) . ' lines', map { "\n  $_" } @workers[0 .. 5]);

	# What it cost.
	my $tried = $s->counter('database_losses') - $losses;
	cmp_ok($cpu / ($lasted || 1), '<', 0.08, sprintf '… no busy loop: %.2f s of CPU in %.1f s', $cpu, $lasted) if $f->{lasts} && !$s->sanitized;
	my $most = $f->{attempts} * 4;
	cmp_ok($attempts_during, '<=', $most, "… no storm: $attempts_during connections seen by PostgreSQL");
	cmp_ok($tried, '<=', $most + 4, "… $tried connections or attempts lost");
	ok($s->wait_for(sub { connections() <= $connections }, 8), '… no connection is left over') or diag(connections() . " instead of $connections:\n",
		map { '  ' . join(' ', map { $_ // '' } @$_) . "\n" } admin("SELECT pid, state, backend_start, query FROM pg_stat_activity WHERE application_name = 'seatcast'"));
	for my $n (sort keys %loop) {
		is(($s->pids("loop 1/$n"))[0], $loop{$n}, "… loop 1/$n is the same");
		ok($s->wait_for(sub { $s->fds($loop{$n}) <= $fds{$n} }, 3), '… with as many descriptors') or diag($s->fds($loop{$n}) . " instead of $fds{$n}");
	}

	# And all is as before.
	my @delay;
	for my $seat (111 .. 120) {
		set_seats($STATUS[$round % 3], $seat);
		my $t = time;
		my $ok = $s->wait_for(sub { !grep { $_->{seats}{$seat} ne $STATUS[$round % 3] } @c[0 .. 2] }, 5);
		push @delay, $ok ? time - $t : 99;
	}
	@delay = sort { $a <=> $b } @delay;
	cmp_ok($delay[-1], '<', 0.2 + 0.1 + 0.4 * $slow, '… and changes come in time again');
	is($s->counter('late_seats'), 0, '… no seat was late');
	push @table, sprintf '%-24s %7s %9.2f %8.0f %6.0f %6.2f %9d %5d  %d/%d', $f->{name}, defined $stale_after ? sprintf('%.2f', $stale_after) : '-', $last - ($f->{by} ? $began : $over),
		1000 * $delay[4], 1000 * $delay[-1], $cpu, $attempts_during, $tried, $said, $said_over;

	$_->close for @c;
	is($s->stop_seatcast(undef, 10), 0, '… and seatcast exits 0');
	$proxy->stop if $f->{proxy};
	($f->{after} // sub {})->();
	return;
}

admin('CREATE ROLE hog LOGIN; GRANT CONNECT ON DATABASE seatcast TO hog');
my @wanted = @ARGV;
for my $f (@FAULTS) {
	next if @wanted && !grep { $f->{name} =~ /\Q$_/ } @wanted;
	eval { run_fault($f); 1 } and next;
	my $why = $@;
	fail("$f->{name}: $why");
	$s->stop_seatcast('INT') if $s->pid('seatcast');
	last;					# what it left behind would spoil the others
}
diag("fault                    stale s recover s  p50 ms max ms  cpu s  connects  lost  said/over\n" . join "\n", @table);
$s->done;
