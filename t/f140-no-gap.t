#!/usr/bin/env perl
# SPEC 3: on a listening socket that somebody else holds and gives on descriptor 0, a restart has no gap: whoever connects all the while, every
# 20 ms, is never refused and always answered; the second one started at once, or only when the first has ended.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use IO::Socket::UNIX; use POSIX (); use Time::HiRes qw(time);

my $s = Scenario->new(seats => 10, lighttpd => 0, start => 0, heartbeat => '60m', pg => { log_statement => 'none' });
my $stage = $s->{stage};
my $slow = $ENV{SEATCAST_PATIENCE} // 1;
my $path = $stage->{listen} = $s->dir . '/held.sock';
my $held = IO::Socket::UNIX->new(Local => $path, Listen => 1024) or die "$path: $!";
my $binary = Cwd::abs_path($ENV{SEATCAST} // "$stage->{build}/src/seatcast");

# One seatcast on the held socket, under a name.
sub start_on_it {
	my ($name, @options) = @_;
	my $log = $s->log_path($name);
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		POSIX::setpgid(0, 0);
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE CHLD);
		open my $out, '>>', $log or POSIX::_exit(126);
		POSIX::dup2(fileno $held, 0);
		POSIX::dup2(fileno $out, $_) for 1, 2;
		chdir $s->dir;
		exec { $binary } $binary, '--database', $s->pg_conninfo(user => 'seatcast_writer'), qw(--workers 2 --poll-interval 200ms), @options
		    or POSIX::_exit(127);
	}
	$stage->{proc}{$name} = { pid => $pid, log => $log };
	$s->wait_for(sub { $s->log_text($name) =~ /serving on descriptor 0/ }, 10) or die "$name does not start:\n" . $s->log_text($name);
	return;
}
my (@asked, $last, @kinds);
@kinds = (['/healthz'], [$s->snapshot_path(1, 101)], ['/api/site/areas'], [$s->stream_path(1, 101), Accept => 'text/event-stream']);
my $asking = 0;
my $refused = 0;
# Ask, as often as is due, and look at the answers.
sub ask {
	return if !$asking || time - ($last // 0) < 0.02;
	$last = time;
	my ($to, @headers) = @{$kinds[@asked % @kinds]};
	my $c = $s->client('asker ' . @asked);
	push @asked, { c => $c, path => $to, at => time };
	if (!eval { $c->get($to, @headers); 1 }) { $refused++; $asked[-1]{refused} = $@ }
	return;
}
sub settle {
	for my $a (grep { !$_->{done} } @asked) {
		my $c = $a->{c};
		my $stream = $a->{path} =~ /status-stream/;
		next if !$c->{closed} && !($stream && $c->events);
		@$a{qw(done took status how)} = (1, ($stream && $c->events ? ($c->events)[0]{at} : $c->{closed_at} // time) - $a->{at}, $c->{status} // 'none', $stream ? ($c->events)[0] ? ($c->events)[0]{type} : 'nothing' : $c->{closed});
		$c->close;
		@{$s->{clients}} = grep { $_ != $c } @{$s->{clients}};
	}
	return;
}
sub run_for { my ($seconds, $until) = @_; my $end = time + $seconds; while (time < $end && !($until && $until->())) { ask(); $s->serve(0.005); settle() } return }
sub report {
	my ($says, $most) = @_;
	$asking = 0;
	run_for(10 * $slow, sub { !grep { !$_->{done} && !$_->{refused} } @asked });
	my @bad = grep { $_->{refused} || !$_->{done} || $_->{status} ne '200' || $_->{path} =~ /status-stream/ && $_->{how} ne 'init' || $_->{path} !~ /status-stream/ && $_->{how} ne 'clean' } @asked;
	is(scalar(@bad), 0, "$says: all " . @asked . ' requests are answered with 200') or diag(map { sprintf "  %s at %.2f s: %s, %s %s\n", $_->{path}, $_->{at} - $asked[0]{at}, $_->{refused} // 'connected', $_->{status} // 'no answer', $_->{how} // '' } @bad[0 .. ($#bad < 9 ? $#bad : 9)]);
	my @took = sort { $a <=> $b } map { $_->{took} // 99 } @asked;
	$s->in_time($took[-1], $most, sprintf '… the slowest in %.0f ms (p50 %.0f)', 1000 * $took[-1], 1000 * $took[@took / 2]);
	@asked = ();
	return;
}

start_on_it('one');
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
$asking = 1;
run_for(1);
report('undisturbed', 1.5 * $slow);

# The second at once: both accept for a moment.
my ($now, $next) = ('one', 'two');
for my $n (1 .. 2) {
	$asking = 1;
	run_for(0.3);
	kill 'TERM', $stage->pid($now);
	start_on_it($next, '--drain-timeout', '1s');
	run_for(20, sub { $stage->ended($now) });
	is($stage->{proc}{$now}{status}, 0, "$now: exits 0");
	delete $stage->{proc}{$now};
	run_for(0.5);
	report("$next started while $now drains", 3 * $slow);
	($now, $next) = ($next, "next$n");
}
# The second when the first has ended, a second later: who connects meanwhile waits in the socket's queue.
for my $n (3 .. 4) {
	$asking = 1;
	run_for(0.3);
	kill 'TERM', $stage->pid($now);
	run_for(20, sub { $stage->ended($now) });
	is($stage->{proc}{$now}{status}, 0, "$now: exits 0");
	delete $stage->{proc}{$now};
	run_for(1);
	start_on_it($next, '--drain-timeout', '1s');
	run_for(1);
	report("$next started after $now", 5 * $slow);
	($now, $next) = ($next, "next$n");
}
# kill -9 of the master instead.
$asking = 1;
run_for(0.3);
kill 'KILL', $stage->pid($now);
run_for(5, sub { $stage->ended($now) });
delete $stage->{proc}{$now};
run_for(0.3);
start_on_it($next, '--drain-timeout', '1s');
run_for(1);
is($refused, 0, 'nobody was ever refused');
$asking = 0;
my $cut = grep { !$_->{done} || $_->{status} ne '200' } @asked;
cmp_ok($cut, '<=', 3, "killed with -9: only those it had just accepted are cut: $cut of " . @asked);
@asked = ();

ok(-S $path, 'the socket is still there');
$s->expect('the viewer comes back', sub { $fan->reconnect; $s->wait_for(sub { $fan->events || $fan->{closed} }, 3) && ($fan->events('init'))[0] }, 10);
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$fan->expect_seat(101 => 'HOLD', within => 2)->close;
kill 'TERM', $stage->pid($next);
is($stage->wait_end($next, 10), 0, 'the last one exits 0');
delete $stage->{proc}{$next};
my $dir = $s->dir;
is(join(', ', map { "$_->[0] $_->[3]" } grep { $_->[3] =~ /^seatcast: / && (readlink("/proc/$_->[0]/cwd") // '') eq $dir } Stage::processes()), '', 'no process is left');
$s->done;
