#!/usr/bin/env perl
# No stadium is too large for --max-groups: a block for which there is no room is shown by the loop of its match, in the same bytes and with
# the same promises; nobody is refused.  With its next connection it has a loop of its own, if there is room by then.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use POSIX ();

my $GROUPS = 4;
my $s = Scenario->new(demo => 1, lighttpd => 0, max_groups => $GROUPS, linger => '300ms', heartbeat => '60m');
my ($rows) = [$s->sql('SELECT s.block_id, min(s.id) FROM seats s WHERE NOT EXISTS (SELECT FROM allocations a WHERE a.match_id = 1 AND a.seat_id = s.id) GROUP BY s.block_id ORDER BY s.block_id LIMIT 40')];
my %seat = map { $_->[0] => $_->[1] } @$rows;
my @blocks = sort { $a <=> $b } keys %seat;
my %fan = map { $_ => $s->client("fan of $_")->watch(1, $_) } @blocks;
$s->expect(@blocks . ' blocks and room for four: all are served', sub { !grep { !$_->events('init') } values %fan });
is($s->counter('refused_groups'), 0, 'nobody was refused');
my @loops = $s->pids('loop');
cmp_ok(scalar @loops, '<=', $GROUPS + 1, '… by ' . @loops . ' loops');
my ($r) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'");
cmp_ok($r->[0], '<=', $GROUPS + 1 + 2 * 2, "… with $r->[0] database connections");
for my $block (@blocks[0, $GROUPS, -1]) {
	my ($n) = $s->sql("SELECT count(*) FROM seats WHERE block_id = $block");
	is(scalar(keys %{$fan{$block}{seats}}), $n->[0], "block $block: its own seats, and all of them");
}
is($s->counter('without_own_loop'), @blocks - $GROUPS, 'they are counted');

$s->sql("SELECT count(*) FROM (SELECT seatcast.hold(1, id, 7, '5m') FROM unnest(ARRAY[" . join(',', values %seat) . ']::bigint[]) AS id) AS h');
$fan{$_}->expect_seat($seat{$_} => 'HOLD') for @blocks;
is(scalar(grep { my $f = $_; grep { $_->{type} !~ /^(?:init|update)$/ } $f->events } values %fan), 0, 'a block\'s events, and no other');
is($s->http(GET => $s->snapshot_path(1, $blocks[-1]))->{status}, 200, 'a snapshot of such a block');

# It comes back with its id, and goes on
my $last = $fan{$blocks[-1]};
$last->close;
$s->sql("SELECT seatcast.release(1, $seat{$blocks[-1]}, 7)");
$last->reconnect->expect_event('update', seatId => $seat{$blocks[-1]}, status => 'AVAILABLE');
is(scalar($last->events('init')), 0, 'back with its id: what it missed, and no init');

# The match's loop dies: its viewers come back like any others, also to a master that has not heard of it yet
my ($match) = $s->pids('loop 1');
ok($match, 'the loop of the match');
my $ptrace = { x86_64 => 101, aarch64 => 117 }->{(POSIX::uname())[4]};
my $traced = $ptrace && syscall($ptrace, 0x4206, $match, 0, 0) == 0;	# PTRACE_SEIZE: its parent hears of its death after us
note $traced ? 'its master does not hear of it' : 'ptrace: no';
kill 'KILL', $match;
$last->expect_closed->reconnect;
$s->pass_time(0.2);		# the worker hands it over
waitpid $match, 0 if $traced;
$last->expect_event('init')->expect_seat($seat{$blocks[-1]} => 'AVAILABLE');

# Room: the next connection has a loop of its own
$_->close for @fan{@blocks[0 .. 1]};
$s->expect('two loops go', sub { !grep { $s->pids("loop 1/$_") } @blocks[0 .. 1] });
my $own = $s->client('with room')->watch(1, $blocks[-1])->expect_event('init');
$s->expect("block $blocks[-1] has a loop of its own", sub { $s->pids("loop 1/$blocks[-1]") });
$s->sql("SELECT seatcast.hold(1, $seat{$blocks[-1]}, 7, '5m')");
$_->expect_seat($seat{$blocks[-1]} => 'HOLD') for $own, $last;
is($s->counter('refused_groups'), 0, 'still nobody was refused');
$s->done(allow => qr/ended by signal 9/);
