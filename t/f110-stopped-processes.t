#!/usr/bin/env perl
# A loop that hangs (SIGSTOP) costs its own viewers and nobody else: the other groups and everything short go on, and the master replaces it
# after its time-out of 15 s.  A worker that hangs costs what it had accepted.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 20, lighttpd => 0, heartbeat => '60m', workers => 3, pg => { log_statement => 'none' });
my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my @fan = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 3;
my $other = $s->client('other')->watch(1, 102)->expect_event('init');
my ($loop) = $s->pids('loop 1/101');
my ($worker) = $s->pids('worker');
my ($master) = $s->pids('master');
my ($r) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'");
my $fds = $s->fds($master);
my @STATUS = qw(HOLD OCCUPIED AVAILABLE);
my ($n, $worst, $refused) = (0, 0, 0);
sub set_seat {
	my ($seat, $status) = @_;
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, $seat, '$status') ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	return;
}

kill 'STOP', $loop, $worker;
my $stopped = time;
set_seat(101, 'HOLD');
my @late;
my %slowest;
until (grep({ $_->{closed} } @fan) == @fan || time - $stopped > 25 * $slow) {
	# the other block
	my $status = $STATUS[$n++ % 3];
	set_seat(1000001, $status);
	my $t = time;
	$s->wait_for(sub { $other->{seats}{1000001} eq $status }, 5) or last;
	$worst = time - $t if time - $t > $worst;
	# short requests, and viewers who come now
	for (['/healthz', 200], [$s->snapshot_path(1, 102), 200], ['/api/site/areas', 200]) {
		my ($path, $want) = @$_;
		$t = time;
		my $a = $s->http(GET => $path, {}, undef, 5);
		$refused++ if ($a->{status} // 0) != $want;
		$slowest{$path} = time - $t if time - $t > ($slowest{$path} // 0);
	}
	push @late, $s->client('late ' . @late)->watch(1, 101) if @late < 20;
	$s->pass_time(0.3);
}
my $took = time - $stopped;
is(scalar(grep { $_->{closed} } @fan), 3, 'the viewers of the stopped loop are let go');
ok($took > 12 && $took < 15 + 4 * $slow, sprintf '… after %.1f s', $took);
$s->in_time($worst, 0.3 + 0.3 * $slow, sprintf 'the other block: every change in time: %.0f ms at most, over %d', 1000 * $worst, $n);
ok(!$other->{closed}, '… on the same connection');
is($refused, 0, '… and every short request was answered') or diag($refused);
$s->in_time($slowest{$_}, 1.5 * $slow, sprintf '… %s in %.0f ms at most', $_, 1000 * $slowest{$_}) for sort keys %slowest;
like($s->log_text('seatcast'), qr{loop 1/101 \(pid $loop\): does not answer: killed}, 'the log says so');
$s->expect_log(qr{worker \(pid $worker\): does not answer: killed}, within => 5);

# Those who came meanwhile were let go too, or are served; all come back.
$s->pass_time(0.5);
my @answered = grep { $_->events('init') || $_->events('busy') } @late;
my @hanging = grep { !$_->{closed} && !$_->events } @late;
is(scalar(@hanging), 0, 'nobody hangs of ' . @late . ' who came meanwhile') or diag(map { "$_->{name} " } @hanging);
diag(sprintf 'of %d who came while it was stopped %d were answered, %d cut', scalar @late, scalar @answered, scalar grep { $_->{closed} && !$_->events } @late);
set_seat(102, 'OCCUPIED');
for my $c (@fan, grep { $_->{closed} } @late) {
	$s->expect("$c->{name} is served again", sub { $c->reconnect; $s->wait_for(sub { $c->events || $c->{closed} }, 3) && $c->events('init') }, 6 * $slow);
	$c->expect_seat(101 => 'HOLD', 102 => 'OCCUPIED', within => 2);
}
isnt(($s->pids('loop 1/101'))[0], $loop, 'by another loop');
$s->expect('three workers again', sub { my @w = $s->pids('worker'); @w == 3 && !grep { $_ == $worker } @w }, 5);
ok($s->wait_for(sub { $s->fds($master) <= $fds }, 5), 'no descriptor of the master is left over') or diag($s->fds($master) . " instead of $fds");
my $now;
ok($s->wait_for(sub { $now = ($s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'"))[0][0]; $now <= $r->[0] + 2 }, 8), 'no database connection either') or diag("$now instead of $r->[0]");
$s->expect_counter(loop_crashes => 1)->expect_counter(worker_restarts => 1);
$s->done;
