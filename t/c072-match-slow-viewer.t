#!/usr/bin/env perl
# SPEC 2a: who reads a match's stream slowly is conflated as on a block's: seats and counts as they are last, once each; ids
# only with everything up to them; nobody else notices.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 2000, lighttpd => 0, poll_interval => '100ms', reconcile_interval => '60m');
my $path = '/api/matches/1/status-stream?blocks=101,102';
my $round = 0;
sub change_all {
	$round++;
	$s->sql("INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, (ARRAY['AVAILABLE', 'HOLD', 'OCCUPIED'])[1 + (id + $round) % 3]
		FROM seats ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status");
	return;
}
my $counts = sub { my ($c) = @_; my %n; $n{$_->{json}{data}{blockId}} = $_->{data} for $c->events('count'); return join ' ', map { $n{$_} } sort keys %n };

my $good = $s->client('good')->get($path)->expect_event('init');
my @slow = map { $s->client("slow $_")->get($path)->expect_event('init')->stop_reading } 1, 2;
for (1 .. 10) {
	my $id = $good->{last_id};
	change_all();
	$s->expect("round $round", sub { $good->{last_id} ne $id });
}
$_->resume_reading->expect_same_seats($good) for @slow;
for my $c (@slow) {
	$s->expect("$c->{name} is where the good one is", sub { $c->{last_id} eq $good->{last_id} });
	my @ids = map { $_->{id} =~ /-(\d+)/ } grep { defined $_->{id} } $c->events;
	is("@ids", join(' ', sort { $a <=> $b } @ids), "$c->{name}: ids @ids");
	cmp_ok(scalar(@ids), '<', 9, '… conflated');
	is($counts->($c), $counts->($good), '… with the same counts');
	my (%last, @old);		# between two ids each cell comes once, updates before counts, by id
	for my $e ($c->events) {
		my $place = $e->{type} eq 'update' ? $e->{json}{data}{seatId} : $e->{type} eq 'count' ? 1e12 + $e->{json}{data}{blockId} : next;
		push @old, $place if $place <= ($last{place} // 0);
		$last{place} = defined $e->{id} ? 0 : $place;
	}
	is("@old", '', '… in order');
}
$s->expect_counter(conflations => '>=', 2);
$s->expect_counter(stalls => 0);
$s->done;
