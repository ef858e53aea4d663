#!/usr/bin/env perl
# A restart of seatcast with 500 viewers who do as an EventSource does: they come back after the `retry` they were given, and again after it when
# nobody is there.  All are back and converged within 10 s of the new start, spread over time, none lost.  Stopped by SIGTERM, and by kill -9.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/../lib", "$FindBin::Bin/lib"; use Scenario; use List::Util qw(max); use Time::HiRes qw(time);

my $VIEWERS = 500;
my $slow = $ENV{SEATCAST_PATIENCE} // 1;

sub restart {
	my ($says, $drain, $signal, $within) = @_;
	my $s = Scenario->new(seats => 20, lighttpd => 0, heartbeat => '60m', drain_timeout => $drain, pg => { log_statement => 'none' });
	my @c = map { $s->client("viewer $_")->watch(1, 101 + $_ % 2) } 1 .. $VIEWERS;
	$s->expect("$says: $VIEWERS viewers", sub { !grep { !$_->events('init') } @c }, 30);
	my (%due, %tries, %back, @reconnects, $new_start);
	my $stopped = time;
	my ($refused, $busy, $cut) = (0, 0, 0);
	my $act = sub {
		my $now = time;
		for my $c (@c) {
			if ($c->{closed} && !$due{$c}) {
				my $told_busy = ($c->events('busy'))[0];
				$busy++ if $told_busy;
				$due{$c} = $c->{closed_at} + ($c->{retry} // 3000) / 1000;
			}
			if ($due{$c} && $due{$c} <= $now) {
				push @reconnects, $now;
				my ($retry, $id) = @$c{qw(retry last_id)};
				if (eval { $c->reconnect; 1 }) { delete $due{$c}; $c->{retry} = $retry; delete $back{$c} }
				else { $refused++; $c->{closed} = 'refused'; $c->{closed_at} = $now; $due{$c} = $now + ($retry // 3000) / 1000 }
			}
			$back{$c} //= $now if $new_start && !$c->{closed} && $c->{opened_at} > $stopped && $c->events('init');
		}
	};
	kill $signal, $s->pid('seatcast');
	until ($s->{stage}->ended('seatcast')) {
		$s->serve(0.02);
		$act->();
	}
	$s->stop_seatcast;
	$s->sql("SELECT seatcast.hold(1, id, 7, '5m') FROM seats WHERE id IN (101, 102, 1000001)");	# while nobody serves
	$s->start_seatcast(wait => 0);
	$new_start = time;
	my $drained = $new_start - $stopped;
	my $limit = time + 25 * $slow;
	my $there = sub { scalar grep { $back{$_} && !$_->{closed} } @c };
	while ($there->() < @c && time < $limit) { $s->serve(0.02); $act->() }
	is($there->(), $VIEWERS, '… all are back, none is lost') or diag(map { "$_->{name}: " . ($_->{status} // 'no status') . ' ' . ($_->{closed} // 'open') . "\n" } (grep { !$back{$_} } @c)[0 .. 4]);
	my @back = sort { $a <=> $b } map { ($back{$_} // $limit) - $new_start } @c;
	my $wrong = sub { scalar grep { my $c = $_; $c->{seats}{101} ? $c->{seats}{101} ne 'HOLD' || $c->{seats}{102} ne 'HOLD' : ($c->{seats}{1000001} // '') ne 'HOLD' } @c };
	$s->wait_for(sub { !$wrong->() }, 2);
	is($wrong->(), 0, '… and have what changed meanwhile');
	my $late = grep { $_ > 10 } @back;
	cmp_ok($back[-1], '<', $within * $slow, sprintf '… within %d s of the new start: half within %.1f s, the last after %.1f s', $within, $back[@back / 2], $back[-1]);
	# Spread: in no quarter of a second more than half of them (the test itself may be held up for a tenth or two).
	my %bin;
	$bin{int(($_ - $stopped) * 4)}++ for @reconnects;
	my $most = max values %bin;
	cmp_ok($most, '<', $VIEWERS / 2, sprintf '… reconnects spread over %.1f s, at most %d in a quarter of a second', $reconnects[-1] - $reconnects[0], $most);
	diag(sprintf '%s: down after %.1f s; %d attempts, %d refused, %d told busy; back: p50 %.1f s, last %.1f s after the new start (%d later than 10 s)', $says, $drained, scalar @reconnects, $refused, $busy, $back[@back / 2], $back[-1], $late);
	# A change reaches all.
	$s->sql("SELECT seatcast.confirm(1, 7, '{101, 102}'); SELECT seatcast.confirm(1, 7, '{1000001}')");
	ok($s->wait_for(sub { !grep { my $c = $_; ($c->{seats}{101} // $c->{seats}{1000001}) ne 'OCCUPIED' } @c }, 2 * $slow), '… and a change reaches all');
	$s->expect_counter(viewers => $VIEWERS);
	$_->close for @c;
	$s->done;
	return;
}

subtest 'SIGTERM, --drain-timeout 2s' => sub { restart('SIGTERM, drained over 2 s', '2s', 'TERM', 10) };
subtest 'kill -9 of the master' => sub { restart('kill -9', '2s', 'KILL', 10) };
# A drained stream ends with a retry that outlasts the drain: who came back earlier would meet the old one and be told busy, 10 to 20 s.
subtest 'SIGTERM, the default --drain-timeout 10s' => sub { restart('SIGTERM, drained over 10 s', '10s', 'TERM', 10) };
done_testing;
