#!/usr/bin/env perl
# Another application keeps one seat's row locked, and buyers click on that seat again and again: they hear 503 within 200 ms, the
# holds of other seats go on as if nothing were (p99 within 100 ms), and so do reads, new blocks and /readyz.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 400, lighttpd => 0);
my $seats = '/api/matches/1/allocation/seats';
sub hold { my ($name, $seat, $user) = @_; return $s->client($name)->request(POST => "$seats/$seat/hold", {}, "{\"userId\":$user}") }

$s->http(POST => "$seats/$_/hold", {}, { userId => 1 }) for 101, 102;
my $app = $s->session;
$app->query('BEGIN; SELECT * FROM allocations WHERE seat_id = 101 FOR UPDATE');
my ($begun, $other, $next, $next_hot, @open, %got, %slow) = (time, 110, 0, 0);
my ($seconds, $next_ready) = (12, 0);
while (time - $begun < $seconds || @open) {
	my $now = time - $begun;
	if ($now < $seconds && $now >= $next) { $next += 0.05; push @open, [hold('other', $other++, 7), time, 'others'] }
	if ($now < $seconds && $now >= $next_hot) { $next_hot += 0.125; push @open, [hold('hot', 101, 1), time, 'the locked one'] }
	if ($now < $seconds && $now >= $next_ready) { $next_ready += 0.1; push @open, [$s->client('readyz')->request(GET => '/readyz', {}), time, '/readyz'] }
	$s->serve(0.005);
	@open = grep { my ($c, $at, $what) = @$_; $c->{closed} || time - $at > 15 ? (push(@{$got{$what}{$c->{status} // 'none'}}, time - $at), 0)[1] : 1 } @open;
	$s->{clients} = [map { $_->[0] } @open];
}
for my $what (sort keys %got) {
	my @t = sort { $a <=> $b } map { @$_ } values %{$got{$what}};
	$slow{$what} = [$t[int(0.99 * $#t)], $t[-1]];
	note(sprintf '%s: %s; median %.0f ms, p99 %.0f, slowest %.0f', $what, join(', ', map { "$_ × " . @{$got{$what}{$_}} } sort keys %{$got{$what}}),
		map { 1000 * $_ } $t[@t / 2], @{$slow{$what}});
}
is(join(' ', sort keys %{$got{others}}), '200', 'holds of other seats: none is refused');
$s->in_time($slow{others}[0], 0.1, '… within 100 ms (p99)');
is(join(' ', sort keys %{$got{'the locked one'}}), '503', 'the locked one: 503');
$s->in_time($slow{'the locked one'}[0], 0.2, '… within 200 ms');
is(join(' ', sort keys %{$got{'/readyz'}}), '200', '/readyz throughout');
my $a = $s->http(POST => "$seats/101/hold", {}, { userId => 1 });
ok($a->{status} == 503 && $a->{headers}{'retry-after'}, '… with Retry-After') or diag($a->{status});
my $t = time;
my $fan = $s->client('fan')->watch(1, 102)->expect_event('init');
$s->in_time(time - $t, 1, 'a new block meanwhile');
$app->query('ROLLBACK');
$s->expect('once it is free, its buyer gets it', sub { $s->http(POST => "$seats/101/hold", {}, { userId => 1 })->{status} == 200 }, 5);
$s->done;
