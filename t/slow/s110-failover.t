#!/usr/bin/env perl
# SPEC 2, promise 3: a failover to a promoted standby, with both hosts in the conninfo.  Viewers keep their connections, hear stale, converge on
# what the new primary has (a commit that never reached it included) and then hear fresh.  The old primary is dead, or just frozen and back later.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time sleep);

my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my @table;

sub set_seats {
	my ($session, $status, @seats) = @_;
	my $in = join ', ', @seats;
	$session->query("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, '$status' FROM seats WHERE id IN ($in)
		ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	return;
}

# Start a standby of the scenario's PostgreSQL, in the same socket directory, on the next port.  Its port.
sub start_standby {
	my ($s) = @_;
	my $stage = $s->{stage};
	my $data = $s->dir . '/standby';
	my $port = $stage->{pg_port} + 1;
	my $user = $stage->{pg_user};
	mkdir $data, 0700 or die "$data: $!";
	chown +(getpwnam $user)[2, 3], $data if defined $user;
	$stage->spawn('basebackup', [$stage->pg_bin('pg_basebackup'), '-D', $data, qw(-X stream -c fast -N -R -d), $s->pg_conninfo(dbname => 'replication', application_name => 'standby')], user => $user);
	my $status = $stage->wait_end('basebackup', 60);
	die "pg_basebackup failed:\n" . $s->log_text('basebackup') if !defined $status || $status;
	delete $stage->{proc}{basebackup};
	my %c = (listen_addresses => '', port => $port, unix_socket_directories => $s->dir . '/pg', unix_socket_permissions => '0700', fsync => 'off',
		shared_buffers => '32MB', max_connections => 200, max_prepared_transactions => 20, log_connections => 'on', log_line_prefix => '%m [%p] %a ', wal_retrieve_retry_interval => '200ms');
	$stage->spawn('standby', [$stage->pg_bin('postgres'), '-D', $data, map { ('-c', "$_=$c{$_}") } sort keys %c], user => $user);
	$s->wait_for(sub { (split /\n/, Stage::slurp("$data/postmaster.pid"))[7] // '' =~ /^ready/ }, 30) or die "the standby does not start:\n" . $s->log_text('standby');
	$s->wait_for(sub { my ($r) = $s->sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"); $r->[0] == 1 }, 20) or die "the standby does not stream:\n" . $s->log_text('standby');
	return $port;
}
sub caught_up {
	my ($s) = @_;
	$s->wait_for(sub { my ($r) = $s->sql("SELECT bool_and(replay_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication WHERE state = 'streaming'"); ($r->[0] // '') eq 't' }, 20)
	    or die "the standby does not catch up\n";
}

sub failover {
	my ($how) = @_;
	my $s = Scenario->new(seats => 30, lighttpd => 0, heartbeat => '60m', start => 0, pg => { log_statement => 'none', wal_level => 'replica' });
	my $stage = $s->{stage};
	my $port = start_standby($s);
	my $two = "$stage->{pg_port},$port";
	my $hosts = join ',', ($s->dir . '/pg') x 2;
	$s->start_seatcast(database => "host=$hosts port=$two dbname=seatcast user=seatcast_writer target_session_attrs=read-write");
	my @c = map { $s->client("$how: viewer $_")->watch(1, $_ < 4 ? 101 : 102)->expect_event('init') } 1 .. 4;
	$s->http(GET => '/readyz') for 1 .. 8;
	my ($loop) = $s->pids('loop 1/101');
	my $fds = $s->fds($loop);

	# Before: some reach the standby, some never will.
	my $main = $s->session;
	set_seats($main, 'HOLD', 101 .. 105, 1000001);
	caught_up($s);
	my ($receiver) = map { $_->[0] } grep { $_->[3] =~ /walreceiver/ && $_->[1] == $stage->pid('standby') } Stage::processes();
	die "no walreceiver\n" if !$receiver;
	kill 'STOP', $receiver;
	set_seats($main, 'OCCUPIED', 105, 106);
	$_->expect_seat(105 => 'OCCUPIED', 106 => 'OCCUPIED', within => 2) for @c[0 .. 2];
	my %from = map { $_ => scalar @{$_->{events}} } @c;
	my $log_at = length $s->log_text('seatcast');

	my $began = time;
	if ($how eq 'dead') { $s->pg_stop('immediate') } else { $s->pg_freeze }
	$s->pass_time(4);				# the failover manager thinks; the standby answers, but takes no writes
	is(scalar(grep { $_->{type} eq 'fresh' } map { @{$_->{events}}[$from{$_} .. $#{$_->{events}}] } @c), 0, "$how: nobody takes the standby for the primary");
	my $standby = $s->session(port => $port);
	kill 'KILL', $receiver;				# the postmaster starts it anew, and there is nobody to stream from
	# A killed process makes its postmaster restart all of them; wait for that, then promote.
	$s->wait_for(sub { $standby->kill; $standby = $s->session(port => $port); eval { $standby->value('SELECT pg_promote(true, 30)') eq 't' } }, 40) or die "not promoted:\n" . $s->log_text('standby');
	my $promoted = time;
	set_seats($standby, 'OCCUPIED', 107, 1000002);
	set_seats($standby, 'HOLD', 108);
	my $last_write = time;

	my $within = ($how eq 'dead' ? 8 : 14) * $slow;
	my %want = map { my $b = $_; $b => { map { @$_ } $standby->query("SELECT s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id WHERE s.block_id = $b") } } 101, 102;
	is($want{101}{106}, 'AVAILABLE', "$how: the new primary never had the last commit of the old one");
	for my $c (@c) {
		$c->expect_event('stale', within => 6) if $c->{next} <= $from{$c} || !grep { $_->{type} eq 'stale' } @{$c->{events}}[$from{$c} .. $#{$c->{events}}];
		ok($s->wait_for(sub { grep { $_->{type} eq 'fresh' } @{$c->{events}}[$from{$c} .. $#{$c->{events}}] }, $within), "$c->{name}: fresh") or die "no fresh within $within s of the promotion\n";
		$c->expect_same_seats($want{$c == $c[3] ? 102 : 101}, within => 1);
		my @types = map { $_->{type} } @{$c->{events}}[$from{$c} .. $#{$c->{events}}];
		like("@types", qr/\Astale(?: update)+ fresh\z/, '… stale, what it missed, fresh') or diag("got: @types");
		ok(!$c->{closed} && $c->events('init') == 1, '… on the connection it had');
	}
	my ($stale) = sort { $a <=> $b } map { map { $_->{at} } grep { $_->{type} eq 'stale' } @{$_->{events}}[$from{$_} .. $#{$_->{events}}] } @c;
	my ($fresh) = sort { $b <=> $a } map { map { $_->{at} } grep { $_->{type} eq 'fresh' } @{$_->{events}}[$from{$_} .. $#{$_->{events}}] } @c;
	ok($stale - $began > 2.5 && $stale - $began < 3.6 + 0.6 * $slow, sprintf '… stale after %.2f s', $stale - $began);
	$s->wait_for(sub { substr($s->log_text('seatcast'), $log_at) =~ m{loop 1/101: database: back} }, 5);
	my @l = grep { m{loop 1/101: database: lost} } split /\n/, substr $s->log_text('seatcast'), $log_at;
	my @b = grep { m{loop 1/101: database: back} } split /\n/, substr $s->log_text('seatcast'), $log_at;
	ok(@l == 1 && @b == 1, '… the log says it once, and once that it is over') or diag(map { "  $_\n" } @l, @b);

	# The old one comes back from its freeze, believing to be the primary: nobody goes back to it.
	if ($how eq 'frozen') {
		$s->pg_thaw;
		$s->pass_time(2);
		$_->expect_same_seats($want{$_ == $c[3] ? 102 : 101}, within => 1) for @c;
		my $old = $s->session;
		my ($n) = $s->wait_for(sub { $old->value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast' AND query LIKE '%seatcast.changes(%' AND query NOT LIKE '%block_exists(0, 0)%'") == 0 }, 8);
		ok($n, '… thawed: no connection of a loop is left on it') or diag map { join(' ', map { $_ // '' } @$_) . "\n" } $old->query("SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'seatcast'");
		$s->pg_stop('immediate');
		$standby = $s->session(port => $port);	# pg_stop hangs up all sessions
	}
	ok($s->wait_for(sub { $s->http(POST => '/api/matches/1/allocation/seats/130/hold', {}, { userId => 7 })->{status} == 200 }, 8), '… seats can be held again');
	is($standby->value('SELECT user_id FROM allocations WHERE seat_id = 130'), 7, '… on the new primary');
	my @delay;
	for my $seat (111 .. 120) {
		set_seats($standby, 'HOLD', $seat);
		my $t = time;
		push @delay, $s->wait_for(sub { !grep { $_->{seats}{$seat} ne 'HOLD' } @c[0 .. 2] }, 5) ? time - $t : 99;
	}
	@delay = sort { $a <=> $b } @delay;
	cmp_ok($delay[-1], '<', 0.3 + 0.4 * $slow, '… and changes come in time again');
	is($s->fds($loop), $fds, '… the loop has as many descriptors');
	cmp_ok($standby->value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'"), '<=', 6, '… and the new primary two connections a worker, one a loop');
	push @table, sprintf '%-24s %7.2f %9.2f %8.0f %6.0f', "failover, old $how", $stale - $began, $fresh - $last_write, 1000 * $delay[4], 1000 * $delay[-1];
	$standby->kill;
	$stage->stop('standby', 'QUIT', 20);
	$s->pg_thaw if $stage->{frozen};
	return $s;
}

for my $how (@ARGV ? @ARGV : qw(dead frozen)) {
	subtest "failover, the old primary $how" => sub { failover($how)->done };
}
diag("fault                    stale s recover s  p50 ms max ms\n" . join "\n", @table);
done_testing;
