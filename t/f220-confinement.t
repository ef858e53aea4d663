#!/usr/bin/env perl
# Once they serve, workers and loops can do no more than they need, and go on doing that: also when a database comes back, a
# name has to be looked up, or a process is made anew.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy;

my $s = Scenario->new(seats => 10, lighttpd => 0, start => 0, linger => '1s', pg => { listen_addresses => '127.0.0.1' });
my $stage = $s->{stage};
my $localhost = $s->pg_conninfo(host => 'localhost', user => 'seatcast_writer', sslmode => 'disable', gssencmode => 'disable');
$s->start_seatcast(database => $localhost);
my $c = $s->client('fan')->watch(1, 101)->expect_event('init');

my ($means) = (qx{'@{[Deploy::binary($stage)]}' --check --database 'host=/nowhere' 2>&1} =~ /^confined: (.*)$/m);
ok($means, '--check says what there is: ' . ($means // 'nothing'));
sub status { my ($pid) = @_; return Stage::slurp("/proc/$pid/status") =~ /^(\w+):\s+(.*)$/mg }
sub is_confined {
	my ($who, $above) = (@_, $s->pids('master'));
	for my $pid ($s->pids($who)) {
		my %is = status($pid);
		is($is{NoNewPrivs}, 1, "$who: no new privileges");
		is($is{Umask}, '0077', '… its files are for nobody else');
		is($is{Seccomp}, 2, '… system calls are filtered') if $means =~ /seccomp/;
		cmp_ok($is{Seccomp_filters}, '>', { status($above) }->{Seccomp_filters}, '… by a filter of its own') if $means =~ /seccomp/ && $is{Seccomp_filters};
	}
	return;
}

SKIP: {
	skip 'a build for tests is not confined', 1 if $means =~ /a build for tests/;
	is_confined('master', $$);
	is_confined($_) for 'worker', 'loop 1/101';

	# who looks at /proc as the same user: without a password there is nothing to hide, with one there is
	sub owner { my ($pid) = @_; return (stat "/proc/$pid")[4] }
	is(owner(($s->pids('worker'))[0]), $>, 'without a password: it is its user\'s');
	if ($> != 0) {
		$s->restart_seatcast('TERM', database => "$localhost password=geheim");
		is(owner($_), 0, 'with a password: only root may look into it') for $s->pids(qr/./);
		$s->restart_seatcast('TERM', database => $localhost);
	}
}

# all that needs something new of the system
my $connects = $s->counter('database_connects');
$s->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'seatcast_writer'");
$s->expect('connections by name are made anew', sub { $s->counter('database_connects') >= $connects + 2 }, 10);
$c = $s->client('again')->watch(1, 101)->expect_event('init', within => 10);
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$c->expect_seat(101 => 'HOLD', within => 10);
for my $who ('worker', 'loop 1/101') {
	my ($old) = $s->pids($who);
	kill 'KILL', $old;
	$s->expect("$who: another", sub { !grep { $_ == $old } $s->pids($who) }, 10);
}
$c = $s->client('after all')->watch(1, 101)->expect_event('init', within => 10);
$s->expect('another loop', sub { $s->pids('loop 1/101') }, 5);
if ($means !~ /a build for tests/) { is_confined($_) for 'worker', 'loop 1/101' }
is($s->http(POST => '/api/matches/1/allocation/seats/102/hold', {}, { userId => 7 })->{status}, 200, 'a seat is held');
is($s->http(GET => $_)->{status}, 200, $_) for qw(/readyz /metrics /status /api/site/stadium);
like($s->log_text('seatcast'), qr/master: running as root/, 'as root it says so') if $> == 0;
unlike($s->log_text('seatcast'), qr/confined: /, 'nothing that it needed was refused');

# and how to have it otherwise
$s->restart_seatcast('TERM', unconfined => undef, env => { SEATCAST_UNCONFINED => 'yes' });
$s->client('free')->watch(1, 101)->expect_event('init', within => 10);
for my $who (qw(master worker), 'loop 1/101') {
	is({ status(($s->pids($who))[0]) }->{$_}, 0, "--unconfined: $who: $_ 0") for qw(Seccomp NoNewPrivs);
}
$s->done;
