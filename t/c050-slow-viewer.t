#!/usr/bin/env perl
# SPEC 2: a viewer that reads slowly is never dropped for slowness alone and costs no memory: it is conflated to the latest
# state of each seat.  Nobody else notices.  One that takes nothing for --stall-timeout is closed.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 2000, lighttpd => 0, poll_interval => '100ms', reconcile_interval => '60m');
my @word = qw(AVAILABLE HOLD OCCUPIED);
my ($round, $state) = (0, { map { ($_ => 'AVAILABLE') } 101 .. 2100 });
# Change all seats of block 101, a frame of some 140 KB; or those with id % 40 from a number on: with rising numbers each round
# leaves some seats as they are for good, and only a frame that goes back to the viewer's own version has them.
sub change_all {
	my ($from) = @_;
	$round++;
	$from //= 0;
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, (ARRAY['AVAILABLE', 'HOLD', 'OCCUPIED'])[1 + (id + $round) % 3]
		FROM seats WHERE block_id = 101 AND id % 40 >= $from ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	$state->{$_} = $word[($_ + $round) % 3] for grep { $_ % 40 >= $from } 101 .. 2100;
	return;
}

my $good = $s->client('good')->watch(1, 101)->expect_event('init');
my @slow = map { $s->client("slow $_")->watch(1, 101)->expect_event('init')->stop_reading } 1 .. 3;
my ($loop) = $s->pids('loop 1/101');
my (@lag, $rss);
for my $n (1 .. 16) {
	change_all($n);
	my $t = time;
	$s->wait_for(sub { $good->{seats}{119} eq $state->{119} && $good->{seats}{2098} eq $state->{2098} }, 5);
	push @lag, time - $t;
	$rss = $s->rss($loop) if $round == 4;
}
$good->expect_same_seats($state);
is(scalar(grep { defined $_->{id} } $good->events('update')), 16, 'the good viewer had each of 16 rounds');
@lag = sort { $a <=> $b } @lag;		# the test itself reads 2000 events a round: its own pauses make the maximum
$s->in_time($lag[@lag / 2], 0.7 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf 'and was not held up: p50 %.0f ms, maximum %.0f ms', map { 1000 * $_ } $lag[@lag / 2], $lag[-1]);
SKIP: {
	skip 'AddressSanitizer keeps freed memory for a while', 1 if $s->sanitized;
	cmp_ok($s->rss($loop) - $rss, '<', 500, 'the loop did not grow over 12 rounds: ' . ($s->rss($loop) - $rss) . ' KiB');
}
$s->expect_counter(viewers => 4);

$_->resume_reading for @slow;
$_->expect_same_seats($state) for @slow;
for my $c (@slow) {
	my @ids = map { $_->{id} =~ /-(\d+)/ } grep { defined $_->{id} } $c->events;
	is(join(' ', @ids), join(' ', sort { $a <=> $b } @ids), "$c->{name}: @ids");
	cmp_ok(scalar(@ids), '<', 9, '… conflated');
	is($c->{last_id}, $good->{last_id}, '… and where the good one is');
}
change_all();
$_->expect_same_seats($state) for $good, @slow;
$s->expect_counter(conflations => '>=', 3);
$s->expect_counter(stalls => 0);
$_->close for $good, @slow;

# ---- stalled, and merely slow or silent ----

$s->restart_seatcast(undef, stall_timeout => '2s', heartbeat => '10s');
my $quiet = $s->client('quiet')->watch(1, 102)->expect_event('init');
my $stalled = $s->client('stalled')->watch(1, 101)->expect_event('init')->stop_reading;
my $trickle = $s->fcgi->request(path => $s->stream_path(1, 101), headers => { Accept => 'text/event-stream' });
my ($read, $closed) = ('', 0);
sub read_some {			# 8 KB every 50 ms, a fifth of what comes
	$trickle->{fh}->blocking(0);
	my $n = sysread $trickle->{fh}, $read, 8192, length $read;
	$closed = 1 if defined $n && $n == 0;
}
my ($begin, $gone) = time;
for my $n (1 .. 16) {
	change_all($n);
	for (1 .. 4) { $s->pass_time(0.05); read_some() }
	$gone //= $s->counter('stalls') ? time - $begin : undef;
}
ok(defined $gone, 'the viewer that takes nothing is closed') and cmp_ok($gone, '>=', 1.9, '… not before the stall timeout');
is($s->counter('stalls'), 1, '… it alone');
ok(!$closed, 'the slow one is not');
my $reader = FastCGI::Reader->new;
my ($text, %seen) = ('');
sub parse {
	$text .= join '', map { $_->{content} } $reader->feed(substr $read, 0, length $read, '');
	$seen{$1} = $2 while $text =~ /"(?:id|seatId)":(\d+),"status":"(\w+)"\}/gc;
	return;
}
ok($s->wait_for(sub { read_some() for 1 .. 16; parse(); !grep { ($seen{$_} // '') ne $state->{$_} } keys %$state }, 10), '… and comes to the latest state of each seat');
ok(!$closed, '… on the same connection');
$quiet->expect_silence(0.1);
$s->expect_counter(viewers => 2);
$stalled->resume_reading->expect_closed;
$s->done;
