#!/usr/bin/env perl
# Who may connect to --control is a peer and not a friend: the memory that it gets can be neither changed nor taken away, what it says of
# itself decides nothing, it gets nobody else's connection, and what it hands over is checked.  Who is not named may not join at all.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use IO::Handle; use IO::Socket::UNIX; use POSIX (); use Socket;

my $s = Scenario->new(seats => 5, lighttpd => 0, control => undef, start => 0, listen_mode => '0666', max_groups => 6, linger => '500ms');
my $stage = $s->{stage};
my $control = $s->dir . '/control.sock';
my $rogue = "$stage->{build}/t/lib/rogue";
-x $rogue or plan(skip_all => 'make check builds t/lib/rogue');
sub once { return `'$rogue' '$control' @_ 2>&1` }
sub staying {		# until finish
	my ($name, @what) = @_;
	pipe my $r, my $w or die;
	fcntl $r, 2, 0;
	$stage->spawn($name, [$rogue, $control, @what], stdin => '/dev/fd/' . fileno $r);
	close $r;
	$s->expect("$name is in", sub { $stage->log_text($name) =~ /^ready$/m });
	return $w;
}
sub finish { my ($name, $w) = @_; close $w; $stage->wait_end($name); delete $stage->{proc}{$name} }
sub well { my ($says) = @_; is($s->http(GET => '/metrics')->{status}, 200, "$says: /metrics"); is($s->http(GET => $s->snapshot_path(1, 101))->{status}, 200, '… a snapshot') }

$s->start_seatcast(control => $control);
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
is(once('board'), join('', map { "$_: Operation not permitted\n" } qw(truncate grow write map)), 'the scoreboard can only be read');
well('after that');

my $slot = staying('nonsense', 'slot');
like($stage->log_text('nonsense'), qr/^truncate: Operation not permitted$/m, 'nor can its own slot be taken away');
$s->pass_time(1.5);		# it is shown once a second
well('a slot full of nonsense');
is($s->counter('groups'), 1, '… which makes no group');
my $more = $s->client('one more')->watch(1, 102)->expect_event('init');
pass('… and no limit is reached by it');
$more->close;
finish('nonsense', $slot);

is(once('spoilt'), "closed\n", 'a hand-over with a text that has no end closes the channel');
$s->expect_log(qr/worker \(pid \d+\): channel: message with a value that can't be/);
well('after that');

# Blocks that do not exist, as many as it likes
my $ghosts = staying('ghosts', 'ghosts', 12);
$s->expect('loops for blocks that do not exist', sub { map { $s->pids("loop 999/$_") } 1 .. 12 });
cmp_ok(scalar(map { $s->pids("loop 999/$_") } 1 .. 12), '<=', 3, '… are half of --max-groups at most');
$s->client('honest')->watch(1, 101)->expect_event('init')->close;
$s->client('honest elsewhere')->watch(1, 102)->expect_event('init')->close;
finish('ghosts', $ghosts);

# Others' connections: their workers die, then, a second time, their loop, so that nobody is left who could serve them
my $collect = staying('collector', 'collect');
kill 'KILL', $s->pids('loop 1/101');
$fan->expect_closed->reconnect->expect_event('init');
my ($loop) = $s->pids('loop 1/101');
kill 'STOP', $loop;
my @waiting = map { $s->client("waits $_")->watch(1, 101) } 1 .. 6;
$s->expect_counter(handovers => '>=', 8);
my @workers = $s->pids('worker');
kill 'KILL', @workers;
$s->expect('their workers are replaced', sub { my @n = grep { my $p = $_; !grep { $_ == $p } @workers } $s->pids('worker'); @n == 2 });
kill 'KILL', $loop;
$s->expect('they are told to come back', sub { !grep { !$_->{closed} } @waiting });
is(scalar(grep { $_->events('busy') } @waiting), 6, '… politely, by workers of ours');
unlike($stage->log_text('collector'), qr/got/, '… and the collector has got nothing');
finish('collector', $collect);
# A master that has no descriptor left for who joins does not spin, and takes him when there is one again
SKIP: {
	my ($master) = $s->pids('master');
	skip 'no prlimit here', 3 if system("prlimit --pid $master --nofile >/dev/null 2>&1") != 0;
	my ($limit) = Stage::slurp("/proc/$master/limits") =~ /^Max open files\s+(\d+)/m;
	my $free = 0;
	$free++ while -l "/proc/$master/fd/$free";
	system("prlimit --pid $master --nofile=$free:$limit");
	my @first = map { IO::Socket::UNIX->new(Peer => $control, Type => SOCK_SEQPACKET) } 1 .. 3;
	$s->expect_log(qr/join: pausing; raise the limit of open files/);
	my $cpu = sub { my @f = split ' ', Stage::slurp("/proc/$master/stat") =~ s/.*\) //r; return ($f[11] + $f[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK()) };
	my $before = $cpu->();
	$s->pass_time(2);
	cmp_ok($cpu->() - $before, '<', 0.05, 'out of descriptors, the master rests');
	system("prlimit --pid $master --nofile=$limit:$limit");
	like(once('board'), qr/^truncate: /, '… and takes who joins when there are some again');
	close $_ for @first;
}
$s->stop_seatcast('TERM');

# Who may
$_->close for $fan, @waiting;
SKIP: {
	my ($other) = $> == 0 ? grep { getpwnam $_ } qw(nobody www-data) : ();
	skip 'only root can be somebody else', 4 if !$other;
	chmod 0755, $s->dir;
	my $as = sub { $stage->spawn('other', [$rogue, $control, 'board'], user => $other); $stage->wait_end('other'); my $said = $stage->log_text('other'); truncate $stage->log_path('other'), 0; delete $stage->{proc}{other}; return $said };
	$s->start_seatcast(control => $control);
	is($as->(), "not welcome\n", 'another user is turned away');
	$s->expect_log(qr/join: refused: user \d+ may not/);
	$s->restart_seatcast('TERM', control => $control, control_user => "daemon,$other");
	like($as->(), qr/^truncate: Operation not permitted/, '… unless it is named');
	$s->stop_seatcast('TERM');
}
my $said = `'@{[ binary($stage) ]}' --listen '$stage->{listen}' --control-user 'root,no-such-user' 2>&1`;
is($? >> 8, 2, 'a user that is none: exit 2');
is($said, "seatcast: --control-user: no such user: no-such-user\n", '… and which');
$s->done(allow => qr/ended by signal 9|join: |message with a value/);
