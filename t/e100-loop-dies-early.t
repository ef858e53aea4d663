#!/usr/bin/env perl
# Through lighttpd: the loop that a viewer is being handed to is killed before it has answered.  A browser's EventSource gives up for good on any
# status but 200 (SPEC 1), so the viewer is to get a stream or busy, or be cut after 200; never lighttpd's 500.  The master hands it to the
# next loop: most notice nothing at all.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $TIMES = 10;
my $s = Scenario->new(seats => 5, pg => { log_statement => 'none' });
$s->sql("INSERT INTO blocks (id, section_id, name) SELECT i, 1, i FROM generate_series(1001, 1000 + $TIMES) AS i;
	INSERT INTO seats (id, block_id, row_number, seat_number) SELECT b * 100000 + n, b, 1, n FROM generate_series(1001, 1000 + $TIMES) AS b, generate_series(1, 5) AS n");
my ($master) = $s->pids('master');
my %known = map { $_ => 1 } $s->pids('worker');
sub children { return map { $_->[0] } grep { $_->[1] == $master } Stage::processes() }
my (%got, @back);
for my $block (1001 .. 1000 + $TIMES) {
	$known{$_} = 1 for children();		# loops that took over from those killed before
	my $c = $s->client("viewer of $block")->watch(1, $block);
	my $end = time + 2;
	my @new;
	until ((@new = grep { !$known{$_} } -r "/proc/$master/task/$master/children" ? split(' ', Stage::slurp("/proc/$master/task/$master/children")) : children()) || time > $end) { }
	kill 'KILL', @new;
	$known{$_} = 1 for @new;
	$s->wait_for(sub { $c->{closed} || $c->events }, 8);
	$got{join ' ', 'status', $c->{status} // 'none', map { $_->{type} } $c->events}++;
	push @back, $c;
}
my @bad = grep { !/^status 200/ } sort keys %got;
is("@bad", '', "$TIMES viewers whose loop was killed before it answered: 200 for all") or diag(map { "$_: $got{$_} times\n" } sort keys %got);
for my $c (@back) {
	$s->expect("$c->{name} asks again: served", sub { $c->reconnect; $s->wait_for(sub { $c->events || $c->{closed} }, 3) && grep { /^(init|beat)$/ } map { $_->{type} } $c->events }, 5);
}
$s->done;
