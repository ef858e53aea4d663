#!/usr/bin/env perl
# Another application keeps one seat's row locked, and buyers click on that seat again and again: they hear 503 within moments, the
# holds of other seats go on as if nothing were, and so do reads, new blocks and /readyz.  The queue of writes has an end.  What
# every buyer meets (a right that is missing) is one line in the log, and counted.
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 400, lighttpd => 0);
my $patience = $ENV{SEATCAST_PATIENCE} // 1;
my $seats = '/api/matches/1/allocation/seats';
sub hold { my ($name, $seat, $user) = @_; return $s->client($name)->request(POST => "$seats/$seat/hold", {}, "{\"userId\":$user}") }

$s->http(POST => "$seats/$_/hold", {}, { userId => 1 }) for 101, 102;
my $app = $s->session;
$app->query('BEGIN; SELECT * FROM allocations WHERE seat_id = 101 FOR UPDATE');
my ($begun, $other, $next, $next_hot, @open, %got, %slow) = (time, 110, 0, 0);
my $seconds = 5;
while (time - $begun < $seconds || @open) {
	my $now = time - $begun;
	if ($now < $seconds && $now >= $next) { $next += 0.1; push @open, [hold('other', $other++, 7), time, 'others'] }
	if ($now < $seconds && $now >= $next_hot) { $next_hot += 0.125; push @open, [hold('hot', 101, 1), time, 'the locked one'] }
	if ($now < $seconds && !grep { $_->[2] eq '/readyz' } @open) { push @open, [$s->client('readyz')->request(GET => '/readyz', {}), time, '/readyz'] }
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
cmp_ok($slow{others}[0], '<=', 0.1 * $patience, '… within 100 ms (p99)');
is(join(' ', sort keys %{$got{'the locked one'}}), '503', 'the locked one: 503');
cmp_ok($slow{'the locked one'}[0], '<=', 0.2 * $patience, '… within 200 ms');
is(join(' ', sort keys %{$got{'/readyz'}}), '200', '/readyz throughout');
my $a = $s->http(POST => "$seats/101/hold", {}, { userId => 1 });
ok($a->{status} == 503 && $a->{headers}{'retry-after'}, '… with Retry-After') or diag($a->{status});
$app->query('ROLLBACK');
$s->expect('once it is free, its buyer gets it', sub { $s->http(POST => "$seats/101/hold", {}, { userId => 1 })->{status} == 200 }, 5);

# ---- the end of the queue ----

$s->restart_seatcast('TERM', workers => 1);
$s->http(POST => "$seats/102/hold", {}, { userId => 1 });
$s->pg_freeze;
my @many = map { hold("buyer $_", 150, $_) } 1 .. 300;
$s->wait_for(sub { (grep { $_->{closed} } @many) >= 40 }, 4);
my @refused = grep { ($_->{status} // 0) == 503 } @many;
cmp_ok(scalar @refused, '>=', 40, 'beyond the end of the queue: ' . @refused . ' are refused at once');
is($s->fcgi->request(path => '/healthz')->answer->{status}, 200, '… and the worker answers');
$s->expect_counter(refused_overload => '>=', 40);
$s->pg_thaw;
$s->wait_for(sub { !grep { !$_->{closed} } @many }, 15);
is(scalar(grep { !$_->{closed} } @many), 0, 'everybody hears something');

# ---- one line ----

$s->{clients} = [];
$s->restart_seatcast('TERM', workers => 2, database => $s->pg_conninfo(user => 'seatcast_reader'));
my %status;
$status{$s->http(POST => "$seats/160/hold", {}, { userId => 1 })->{status}}++ for 1 .. 60;
is(join(' ', %status), '503 60', 'the reader role may not hold');
my @lines = $s->log_text('seatcast') =~ /^(.*warn .*request: .*42501.*)$/mg;
is(scalar @lines, 1, 'one line says so');
$s->expect_counter(database_errors => 60);
$s->done;
