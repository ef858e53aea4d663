#!/usr/bin/env perl
# On a socket that was given to us, nothing is accepted once a drain has begun: what waits there is for the successor.  Also a worker
# that takes the place of one that died in the drain accepts nothing.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Fcntl; use IO::Socket::UNIX;

my $s = Scenario->new(seats => 5, lighttpd => 0, start => 0);
my $stage = $s->{stage};
my $path = $stage->{listen} = $s->dir . '/fcgi.sock';
my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 100) or die "socket: $!";
fcntl $listener, F_SETFD, 0 or die "fcntl: $!";
$stage->spawn('seatcast', [$^X, '-MPOSIX=dup2', '-e', 'my $fd = shift; dup2($fd, 0); POSIX::close($fd); exec { $ARGV[0] } @ARGV',
	fileno $listener, binary($stage), '--database', $s->pg_conninfo(user => 'seatcast_writer'), qw(--workers 2 --drain-timeout 6s)]);
my @fans = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 4;

sub newcomer { return $s->client('newcomer')->request(GET => '/healthz') }
my @waiting;
kill 'TERM', $stage->pid('seatcast');
$s->expect_log(qr/draining: streams end/);
push @waiting, newcomer() for 1 .. 4;
$s->pass_time(0.3);
is(scalar(grep { $_->{closed} || $_->{body} } @waiting), 0, 'draining on a given socket: a newcomer waits for the successor');
my @before = $s->pids('worker');
kill 'KILL', @before;
$s->expect('workers that die are replaced', sub { my @now = grep { my $p = $_; !grep { $_ == $p } @before } $s->pids('worker'); @now == 2 });
push @waiting, newcomer() for 1 .. 4;
$s->pass_time(0.5);
is(scalar(grep { $_->{closed} || $_->{body} } @waiting), 0, '… and the new ones accept nothing');
$s->expect('it ends', sub { $stage->ended('seatcast') }, 12);
is($stage->{proc}{seatcast}{status}, 0, '… with status 0');
$_->close for @fans;

$stage->spawn('seatcast', [$^X, '-MPOSIX=dup2', '-e', 'my $fd = shift; dup2($fd, 0); POSIX::close($fd); exec { $ARGV[0] } @ARGV',
	fileno $listener, binary($stage), '--database', $s->pg_conninfo(user => 'seatcast_writer'), qw(--workers 2 --drain-timeout 1s)]);
$s->expect('the successor serves all who waited', sub { 8 == grep { ($_->{status} // 0) == 200 && $_->{closed} } @waiting });
$s->done(allow => qr/ended by signal 9/);
