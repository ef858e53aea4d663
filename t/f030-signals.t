#!/usr/bin/env perl
# SPEC 3: SIGTERM and SIGUSR1 end the streams over --drain-timeout and exit 0, SIGINT at once; SIGHUP is ignored.  Streams end
# politely, who comes meanwhile is refused politely, and the next start finds the socket free.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use FastCGI; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 5, drain_timeout => '2s', lighttpd => 0);
my $socket = $s->dir . '/fcgi.sock';
sub viewers { return map { $s->client("fan $_")->watch(1, 100 + $_ % 2 + 1)->expect_event('init') } 1 .. 20 }
# The end, seen from all sides.  Wait status, and seconds it took.
sub end_with {
	my ($signal, @c) = @_;
	my $t = time;
	my $status = $s->stop_seatcast($signal, 10);
	my $took = time - $t;
	is($status, 0, "SIG$signal: exits 0");
	$s->serve(0.05) for 1 .. 5;
	is(join(' ', grep { $_ ne 'clean' } map { $_->{closed} // 'open' } @c), '', '… streams end with END_REQUEST');
	ok(!-e $socket, '… the socket is removed');
	return $took;
}

my ($log) = $s->log_text('seatcast');
kill 'HUP', $s->pid('seatcast');
my @c = viewers();
$s->expect_counter(viewers => 20);

for my $signal (qw(TERM USR1)) {
	kill $signal, $s->pid('seatcast');
	my $t = time;
	$s->pass_time(0.3);
	is(scalar(grep { !$_->{closed} } @c) > 0, 1, "SIG$signal: not all end at once");
	my $late = $s->client('late')->watch(1, 101)->expect_event('busy')->expect_closed(how => 'clean');
	is($late->{status}, 200, 'a stream that comes meanwhile is told that we are busy');
	is($s->fcgi->request(path => $s->stream_path(1, 101))->answer->{status}, 503, '… or 503 without Accept');
	my $status = $s->{stage}->wait_end('seatcast', 10);
	my $took = time - $t;
	is($status, 0, 'exits 0');
	ok($took > 1 && $took < 3, sprintf '… within --drain-timeout: %.1f s', $took);
	$s->serve(0.05) for 1 .. 5;
	is(join(' ', grep { $_ ne 'clean' } map { $_->{closed} // 'open' } @c), '', 'streams end with END_REQUEST');
	my @at = sort { $a <=> $b } map { $_->{closed_at} } @c;
	cmp_ok($at[-1] - $at[0], '>', 0.8, sprintf '… spread over %.1f s', $at[-1] - $at[0]);
	ok(!-e $socket, 'the socket is removed');
	$s->restart_seatcast;
	@c = viewers();
}
$s->in_time(end_with('INT', @c), 1, '… at once');

# Twice: now.
$s->restart_seatcast(undef, drain_timeout => '60s');
@c = viewers();
kill 'TERM', $s->pid('seatcast');
$s->pass_time(0.2);
ok(!$s->{stage}->ended('seatcast'), 'SIGTERM with a long --drain-timeout: it drains');
$s->in_time(end_with('INT', @c), 1.5, '… and SIGINT ends that at once');

# With nobody there it has nothing to wait for.
$s->restart_seatcast(undef, drain_timeout => '60s');
$s->in_time(end_with('TERM'), 1, 'without viewers SIGTERM ends at once');

# A second one on the same socket is told so, and does no harm.
$s->restart_seatcast(undef, drain_timeout => '0s');
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
my $binary = $ENV{SEATCAST} // "$s->{stage}{build}/src/seatcast";
$s->{stage}->spawn('second', [$binary, '--listen', $socket, '--database', $s->pg_conninfo]);
is($s->{stage}->wait_end('second', 5) // -1, 2 << 8, 'a second seatcast on the same socket: exit status 2');
is(() = $s->log_text('second') =~ /\n/g, 1, '… one line') or diag $s->log_text('second');
ok(-S $socket, '… the socket stays');
$s->client('new')->watch(1, 101)->expect_event('init')->close;
ok(!$fan->{closed}, '… and the first one serves');

# A socket's file that is another one's by now is not ours to remove.
unlink $socket;
$s->{stage}->spawn('second', [$binary, '--listen', $socket, '--database', $s->pg_conninfo]);
$s->expect('another one serves on the path', sub { my $f = FastCGI->connect($socket, try => 1) or return 0; $f->request(path => '/healthz')->answer(1)->{status} }, 5);
is($s->stop_seatcast('TERM', 10), 0, 'SIGTERM to the first');
ok(-S $socket, '… leaves the other one its socket');
is($s->{stage}->stop('second'), 0, '… which ends as it should');
ok(!-e $socket, '… and removes it');
$s->start_seatcast(drain_timeout => '0s');
$fan = $s->client('fan')->watch(1, 101)->expect_event('init');
$s->in_time(end_with('TERM', $fan), 1, 'SIGTERM with --drain-timeout 0s');

# What is no conninfo is a bad command line, and not a database that never comes.
for my $bad ('nonsense', 'foo=bar', "host='unterminated", 'postgresql://[::1/x', 'postgresql://x:ge/heim\@localhost/x') {
	my $said = qx{'$binary' --listen '$socket' --database "$bad" 2>&1};
	is($? >> 8, 2, "--database $bad: exit status 2");
	unlike($said, qr/heim/, '… which shows no password');
	like($said, qr/\Aseatcast: --database: nothing that libpq can read .*\n\z/, '… in one line');
}
for my $bad ('9000', 'bare.sock', 'localhost', 'localhost:', ':0', ':65536', '127.0.0.1:x') {
	my $said = qx{'$binary' --listen '$bad' 2>&1};
	is($? >> 8, 2, "--listen $bad: exit status 2");
	like($said, qr/\Aseatcast: --listen: \Q$bad\E: not a path with a '\/', HOST:PORT, .*\n\z/, '… in one line');
}
$s->restart_seatcast;
$s->done;
