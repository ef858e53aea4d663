#!/usr/bin/env perl
# What a stream, an event and a group cost on this machine: the figures of doc/scaling.md.
#
#	perl bench/scale.pl streams [8000]		one block, that many viewers straight at seatcast's socket
#	perl bench/scale.pl lighttpd [4000]		the same through lighttpd
#	perl bench/scale.pl haproxy [3000]		the same through HAProxy before lighttpd
#	perl bench/scale.pl groups [100]		that many blocks with a viewer each, a poll a second
#
# Processor time is the kernel's count for the processes in question (schedstat), memory is theirs too; the viewers are
# in this script and count for nothing, but they share the machine.
# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib";
use Deploy qw(start_haproxy);
use FastCGI;
use Scenario;
use Socket;
use Time::HiRes qw(time sleep);

my $mode = shift // 'streams';
my $n = shift // { streams => 8000, lighttpd => 4000, haproxy => 3000, groups => 100 }->{$mode} // die "streams, lighttpd, haproxy or groups?\n";
Test::More->builder->no_ending(1);
$| = 1;

# Seconds of processor time of these and their threads, so far.
sub cpu { my $t = 0; for (map { glob "/proc/$_/task/*" } @_) { $t += (split ' ', Stage::slurp("$_/schedstat"))[0] // 0 } return $t / 1e9 }
sub kib { my ($what, @pids) = @_; my $sum = 0; for (@pids) { $sum += (Stage::slurp("/proc/$_/smaps_rollup") =~ /^$what:\s+(\d+)/m)[0] // 0 } return $sum }
sub private { return kib('Private_Dirty', @_) + kib('Private_Clean', @_) }
sub slab { my ($k) = Stage::slurp('/proc/meminfo') =~ /^Slab:\s+(\d+)/m; return $k }

my $s = Scenario->new(lighttpd => $mode =~ /^(?:lighttpd|haproxy)$/ ? 1 : 0, seats => 400, poll_interval => '1s', heartbeat => '60m', workers => 4, reconcile_interval => '60m',
	max_streams => 19000, max_groups => 1000, linger => '60m', pg => { log_statement => 'none', max_connections => 1100 });
my $stage = $s->{stage};
my %front;		# what else a stream goes through: name => pids
$front{lighttpd} = [$s->pid('lighttpd')] if $mode =~ /^(?:lighttpd|haproxy)$/;
if ($mode eq 'haproxy') {
	$stage->{port} = start_haproxy($stage, $stage->{port});
	$front{haproxy} = [$stage->pid('haproxy'), $stage->members('haproxy')];
	$s->wait_for(sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 10) or die "HAProxy does not answer\n";
}
printf "%s, %d cores, load %s\n", scalar localtime, scalar(() = Stage::slurp('/proc/cpuinfo') =~ /^processor/mg), (split ' ', Stage::slurp('/proc/loadavg'))[0];
$mode eq 'groups' ? groups() : streams();
$s->{stage}->strike;

# Many sockets, read and counted.
my (%fh, %tail, $rin, $bytes, $updates);
sub attach {
	my ($block) = @_;
	my $direct = !%front;
	socket my $fh, $direct ? PF_UNIX : PF_INET, SOCK_STREAM, 0 or die "socket: $!";
	connect $fh, $direct ? pack_sockaddr_un($stage->{listen}) : pack_sockaddr_in($stage->{port}, INADDR_LOOPBACK) or die "connect: $!";
	my $path = $s->stream_path(1, $block);
	syswrite $fh, $direct ? fcgi_request(path => $path, headers => { Accept => 'text/event-stream' })
	    : "GET $path HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n" or die "write: $!";
	$fh->blocking(0);
	$fh{fileno $fh} = $fh;
	vec($rin, fileno $fh, 1) = 1;
	return;
}
sub take {
	my ($until, $enough) = @_;
	while ((my $left = $until - time) > 0 && !$enough->()) {
		next if select(my $r = $rin, undef, undef, $left < 0.05 ? $left : 0.05) <= 0;
		for my $fd (keys %fh) {
			next if !vec($r, $fd, 1);
			my $got = sysread $fh{$fd}, my $buf, 65536;
			if (defined $got && $got == 0) { vec($rin, $fd, 1) = 0; delete $fh{$fd}; next }
			next if !$got;
			$bytes += $got;
			$buf = ($tail{$fd} // '') . $buf;		# an event's name may come in two parts
			$updates++ while $buf =~ /event: (?:update|init)\n/g;	# at the start of a line, or of a FastCGI record
			$tail{$fd} = substr $buf, 1 + rindex $buf, "\n";
		}
	}
	return;
}

sub streams {
	($rin, $bytes, $updates) = ('', 0, 0);
	attach(101);
	take(time + 10, sub { $updates >= 1 });
	my ($loop) = $s->pids('loop 1/101');
	my @front = sort keys %front;
	my ($rss, $slab, $t) = (private($loop), slab(), time);
	my %had = map { $_ => private(@{$front{$_}}) } @front;
	for (2 .. $n) { attach(101); take(time + 0.001, sub { 0 }) if $_ % 200 == 0 }
	take(time + 60, sub { $updates >= $n });
	my $d = time - $t;
	printf "%d of %d streams have init (400 seats) after %.1f s: %.0f a second\n", $updates, $n, $d, $updates / $d;
	sleep 1;
	printf "memory per stream: loop %.0f bytes%s, kernel (slab, all of the machine, viewers' ends too) %.1f KiB\n", 1024 * (private($loop) - $rss) / $n,
	    join('', map { sprintf ', %s %.1f KiB', $_, (private(@{$front{$_}}) - $had{$_}) / $n } @front), (slab() - $slab) / $n;
	for my $changes (1, 20) {
		my $rounds = 8;
		($bytes, $updates) = (0, 0);
		my %used = map { $_ => -cpu(@{$front{$_}}) } @front;
		my $c = -cpu($loop);
		my @took;
		for my $round (1 .. $rounds) {
			my $before = $updates;
			my $status = $round % 2 ? 'OCCUPIED' : 'AVAILABLE';
			$s->sql("INSERT INTO allocations (match_id, seat_id, user_id, status) SELECT 1, 100 + g, 7, '$status' FROM generate_series(1, $changes) g ON CONFLICT (match_id, seat_id) DO UPDATE SET status = '$status'");
			take(time + 1.5, sub { $updates > $before });
			my $first = time;
			take(time + 15, sub { $updates - $before >= $n * $changes });
			push @took, time - $first;
		}
		$c += cpu($loop);
		$used{$_} += cpu(@{$front{$_}}) for @front;
		printf "%d changes in a poll, %d times: %.0f of %.0f events arrived; the last viewer %.0f ms after the first (median); processor per viewer and poll: loop %.1f µs%s; %.0f bytes each\n",
		    $changes, $rounds, $updates, $n * $changes * $rounds, 1000 * (sort { $a <=> $b } @took)[$#took / 2], 1e6 * $c / $n / $rounds,
		    join('', map { sprintf ', %s %.1f µs', $_, 1e6 * $used{$_} / $n / $rounds } @front), $bytes / $n / $rounds;
	}
	my %all = (loop => [$loop], %front);
	my %from = map { $_ => cpu(@{$all{$_}}) } keys %all;
	take(time + 5, sub { 0 });
	printf "nothing happens: %s of a core\n", join ', ', map { sprintf '%s %.2f %%', $_, 20 * (cpu(@{$all{$_}}) - $from{$_}) } 'loop', @front;
	return;
}

sub groups {
	($rin, $bytes, $updates) = ('', 0, 0);
	$s->sql("INSERT INTO blocks (id, section_id, name) SELECT i, 1, i FROM generate_series(201, 200 + $n) i;"
		. "INSERT INTO seats (id, block_id, row_number, seat_number) SELECT 2000000 + 1000 * b + i, b, 1, i FROM generate_series(201, 200 + $n) b, generate_series(0, 399) i; ANALYZE");
	my $t = time;
	attach($_) for 201 .. 200 + $n;
	take(time + 120, sub { $updates >= $n });
	printf "%d groups of 400 seats: all have init after %.1f s\n", $updates, time - $t;
	my @loops = $s->pids('loop');
	my @db = map { $_->[0] } $s->sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'seatcast'");
	take(time + 3, sub { 0 });
	my ($c, $d, $from) = (cpu(@loops), cpu(@db), time);
	take(time + 15, sub { 0 });
	my $secs = time - $from;
	printf "%d loops, %d database connections; memory per group: loop %.0f KiB proportional (%.0f private), database connection %.0f KiB private\n",
	    scalar @loops, scalar @db, kib('Pss', @loops) / @loops, private(@loops) / @loops, private(@db) / @db;
	printf "a poll without news: loop %.2f ms, database %.2f ms of processor time\n", 1000 * (cpu(@loops) - $c) / $n / $secs, 1000 * (cpu(@db) - $d) / $n / $secs;
	return;
}
