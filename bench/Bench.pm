# SPDX-License-Identifier: ISC
package Bench;

# What bench/table.pl and bench/servers.pl have in common: processor time, viewers, the floor, buyers, figures.

use v5.32;
use warnings;
use Exporter qw(import);
use IO::Socket::INET;
use IPC::Open2 qw(open2);
use Time::HiRes qw(time sleep);
use Stage;

our @EXPORT = qw($FIRST cpu family viewers say_to settled end_of floor buyers events_each median spread machine);
our $FIRST = 101;		# the first block; the others follow
my $PATH = '/api/matches/1/blocks/%d/seats/status-stream';

# Microseconds that these processes have had, threads included.
sub cpu { my $t = 0; for (map { glob "/proc/$_/task/*/schedstat" } @_) { $t += (split ' ', Stage::slurp($_))[0] // 0 } return $t / 1000 }
# The pids of a stage's children of these names, and of theirs.
sub family { my ($stage, @names) = @_; return map { ($stage->pid($_), $stage->members($_)) } grep { $stage->pid($_) } @names }

# bench/viewers as a conversation.
sub viewers {
	my ($stage, $how, $where, $count, $blocks) = @_;
	my $pid = open2(my $out, my $in, "$stage->{build}/bench/viewers", $how, $where, $count, "$FIRST:$blocks", $PATH);
	$in->autoflush(1);
	return { pid => $pid, in => $in, out => $out };
}
sub say_to { my ($v, $word) = @_; print {$v->{in}} "$word\n"; my $line = readline($v->{out}) // die "viewers ended\n"; return split ' ', $line }
sub end_of { my ($v) = @_; close $v->{in}; waitpid $v->{pid}, 0; return }

# The report, once nothing more has arrived for longer than anybody's interval: nobody is counted in the middle of a frame.
sub settled {
	my ($v) = @_;
	my @was = (-1) x 2;
	for (1 .. 20) {
		my @now = say_to($v, 'report');
		return @now if $now[1] == $was[1];
		@was = @now;
		sleep 1.3;
	}
	return @was;
}

# How many events a block has in a second.
sub events_each { my ($blocks, $changes) = @_; return int($changes / $blocks + 0.5) || ($changes ? 1 : 0) }

# bench/floor: kind http or fcgi, where a port or a socket; shape: see floor.c.
sub floor {
	my ($stage, $kind, $where, $blocks, $changes, $shape) = @_;
	pipe my $r, my $w or die "pipe: $!";
	$stage->{floor_stdin} = $w;		# it ends with this
	$stage->spawn('floor', ["$stage->{build}/bench/floor", $kind, $where, $blocks, events_each($blocks, $changes), 1000, $shape // ()], stdin => "/proc/$$/fd/" . fileno $r);
	$stage->wait_until(sub { $where =~ /^\d+$/ ? IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $where) : -S $where });
	return;
}

# Whoever changes seats: each call writes what is due.  The sale has been on for a while: every seat has a row.
sub buyers {
	my ($s, $blocks, $changes) = @_;
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'AVAILABLE' FROM seats ON CONFLICT DO NOTHING", 60);
	$s->sql('VACUUM ANALYZE allocations', 60);
	return undef if !$changes;
	my @seats = map { $_->[0] } $s->sql("SELECT id FROM seats WHERE block_id < $FIRST + $blocks ORDER BY id");
	my ($began, $done) = (time, 0);
	return sub {
		my $due = int((time - $began) * 10) * $changes / 10;
		return if $due <= $done;
		$done = $due - $changes / 10 if $due - $done > $changes;	# nobody called for a while
		my %ids = map { $seats[rand @seats] => 1 } 1 .. $due - $done;
		$done = $due;
		$s->sql(sprintf q(INSERT INTO allocations (match_id, seat_id, user_id, status) SELECT 1, id, 7, 'HOLD' FROM unnest('{%s}'::bigint[]) AS t (id)
			ON CONFLICT (match_id, seat_id) DO UPDATE SET status = CASE allocations.status WHEN 'HOLD' THEN 'OCCUPIED' WHEN 'OCCUPIED' THEN 'AVAILABLE' ELSE 'HOLD' END),
			join ',', sort { $a <=> $b } keys %ids);
	};
}

sub median { my @s = sort { $a <=> $b } @_; return ($s[$#s / 2] + $s[@s / 2]) / 2 }
# "2.1 (1.9 to 2.4)"
sub spread { my @s = sort { $a <=> $b } @_; return @s == 1 ? sprintf '%.3g', $s[0] : sprintf '%.3g (%.3g to %.3g)', median(@s), @s[0, -1] }

sub machine { return sprintf '%s, %d cores, load %s', scalar localtime, scalar(() = Stage::slurp('/proc/cpuinfo') =~ /^processor/mg), (split ' ', Stage::slurp('/proc/loadavg'))[0] }

1;
