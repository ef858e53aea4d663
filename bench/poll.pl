#!/usr/bin/env perl
# A loop's own part of a poll, beside the least that asking the same can cost, and from fork to init.
#
#	perl bench/poll.pl [--rounds 5] [--polls 60] [--interval 100]	three minutes; milliseconds between polls
#
# Microseconds of processor time of the loop for each poll (the kernel's schedstat): without news, with one viewer and with ten;
# with one change and ten viewers (changes come a little more rarely than polls, so that none has two; what the polls without one
# cost is taken off).  Floors, in the same round: bench/ask with the loop's own statement, with SELECT 1, with neither.
# Then milliseconds from the first request for a block to its init: a loop is forked, connects and reads; beside it what connecting
# alone and the first snapshot on a new connection take.  Median of the rounds, and from the least to the most.
# SPDX-License-Identifier: ISC

use v5.32;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../t/lib", $FindBin::Bin;
use Getopt::Long;
use Time::HiRes qw(time sleep);
use Bench;
use Scenario;

my ($rounds, $polls, $interval) = (5, 60, 100);
GetOptions('rounds=i' => \$rounds, 'polls=i' => \$polls, 'interval=i' => \$interval) or die "see the first lines of $0\n";
Test::More->builder->no_ending(1);
$| = 1;

my $s = Scenario->new(demo => 1, lighttpd => 0, workers => 1, linger => '100ms', poll_interval => "${interval}ms", reconcile_interval => '60m', heartbeat => '60m',
	pg => { log_statement => 'none' });
my $stage = $s->{stage};
buyers($s, 30, 0);		# the sale has been on for a while
my $conninfo = $stage->pg_conninfo(user => 'seatcast_writer');

sub stream {
	my ($block) = @_;
	my ($c, $began) = ($s->fcgi, time);
	$c->request(path => $s->stream_path(1, $block));
	$c->read_until(sub { $c->{stdout} =~ /event: init/ }, 20) or die "no init: $c->{stdout}\n";
	return ($c, (time - $began) * 1000);
}

# Processor time of the block's loop for each poll, while $each is called at its own pace.
sub poll_cost {
	my ($block, $pause, $each) = @_;
	my ($pid) = $s->pids("loop 1/$block") or die "no loop of block $block\n";
	my ($n, $began, $done) = ($s->counter('polls'), cpu($pid), 0);		# of this loop: there is no other
	my $end = time + $polls * $interval / 1000;
	while (time < $end) { $each->($done++) if $each; sleep $pause / 1000 }
	my $after = cpu($pid);
	$n = $s->counter('polls') - $n;
	return (($after - $began) / $n, $done / $n);
}

my $statement = 'SELECT 1, $2::bigint, seat_id::bigint, status::text, hold_expires_at::timestamptz, next_cursor::text, as_of::timestamptz '
	. 'FROM seatcast.changes($1::bigint, $2::bigint, $3::text)';
sub ask {
	open my $fh, '-|', "$stage->{build}/bench/ask", @_ or die "bench/ask: $!\n";
	chomp(my $figure = readline($fh) // die "bench/ask: no answer\n");
	return $figure;
}

my (%us, %ms);
my @open;
for my $round (1 .. $rounds) {
	my $block = $FIRST + $round;
	push @open, (stream($block))[0];
	$s->pass_time(1);
	push @{$us{'no news, one viewer'}}, (poll_cost($block, $interval))[0];
	push @open, (stream($block))[0] for 2 .. 10;
	my ($quiet) = poll_cost($block, $interval);
	push @{$us{'no news, ten viewers'}}, $quiet;
	my ($seat) = map { $_->[0] } $s->sql("SELECT min(id) FROM seats WHERE block_id = $block");
	my ($mixed, $with) = poll_cost($block, $interval * 1.1, sub {
		$s->sql(sprintf "UPDATE allocations SET status = '%s' WHERE match_id = 1 AND seat_id = %d", $_[0] % 2 ? 'AVAILABLE' : 'OCCUPIED', $seat);
	});
	push @{$us{'one change, ten viewers'}}, ($mixed - (1 - $with) * $quiet) / $with;
	my ($cursor) = map { $_->[0] } $s->sql("SELECT max(next_cursor) FROM seatcast.snapshot(1, $block)");
	$_->close for splice @open;
	$s->wait_for(sub { !$s->pids("loop 1/$block") });
	push @{$us{'floor: the same statement'}}, ask($interval, $polls, $conninfo, $statement, 1, $block, $cursor);
	push @{$us{'floor: SELECT 1'}}, ask($interval, $polls, $conninfo, 'SELECT 1');
	push @{$us{'floor: a sleep alone'}}, ask($interval, $polls);
}
for my $block ($FIRST + $rounds + 1 .. $FIRST + 2 * $rounds) {
	for my $turn ('fork to init', 'the next viewer') {
		my ($c, $took) = stream($block);
		push @open, $c;
		push @{$ms{$turn}}, $took;
		$s->pass_time(0.2);
	}
	for my $floor (['floor: connecting, SELECT 1', 'SELECT 1'], ['floor: connecting, snapshot', 'SELECT * FROM seatcast.snapshot($1::bigint, $2::bigint)', 1, $block]) {
		my ($name, @question) = @$floor;
		push @{$ms{$name}}, ask('once', $conninfo, @question);
	}
}

printf "%s; %d rounds of %d polls, one each %d ms\n\n", machine(), $rounds, $polls, $interval;
print "| a poll | us of the loop's processor time |\n|---|---|\n";
printf "| %s | %s |\n", $_, spread(@{$us{$_}}) for 'no news, one viewer', 'no news, ten viewers', 'one change, ten viewers', 'floor: the same statement', 'floor: SELECT 1', 'floor: a sleep alone';
print "\n| from the request to init | ms |\n|---|---|\n";
printf "| %s | %s |\n", $_, spread(@{$ms{$_}}) for 'fork to init', 'the next viewer', 'floor: connecting, SELECT 1', 'floor: connecting, snapshot';
$s->{stage}->strike;
