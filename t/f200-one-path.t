#!/usr/bin/env perl
# A path of --listen has one owner: of two that start on it at once one serves and the other says why not; what a crash left is replaced;
# nothing is left behind.  While one drains its successor takes the path over, and no connection is refused for it.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use IO::Socket::UNIX; use Socket; use POSIX qw(:sys_wait_h); use Time::HiRes qw(time sleep);

my $s = Scenario->new(seats => 5, lighttpd => 0, start => 0);
my $stage = $s->{stage};
my $path = $stage->{listen} = $s->dir . '/fcgi.sock';
my @options = ('--listen', $path, '--database', $s->pg_conninfo(user => 'seatcast_writer'), qw(--workers 1 --poll-interval 200ms));
sub start { my ($name, @more) = @_; return $stage->spawn($name, [binary($stage), @options, @more]) }
sub serving { return $stage->wait_until(sub { my $c = FastCGI->connect($path, try => 1) or return 0; $c->request(path => '/healthz'); ($c->answer(2)->{status} // 0) == 200 }) }
sub left { return join ' ', grep { !m{/(?:log|pg|postgresql\S*)$} } map { m{([^/]+)$} } glob $s->dir . '/*.{sock,lock,new}*' }

# Two at once, again and again
my (%ended, $both, $none);
for my $round (1 .. 10) {
	start("twin$_", '--drain-timeout', '0') for 1 .. 2;
	$stage->wait_until(sub { 1 <= grep { $stage->ended("twin$_") } 1 .. 2 }, 5);
	my @running = grep { !$stage->ended("twin$_") } 1 .. 2;
	$both++ if @running == 2;
	$none++ if !@running;
	ok(0, 'it serves') if @running && !serving();
	for (1 .. 2) {
		if ($stage->ended("twin$_")) { $ended{$stage->{proc}{"twin$_"}{status} >> 8}++ } else { $stage->stop("twin$_", 'INT') }
		delete $stage->{proc}{"twin$_"};
	}
}
is($both // 0, 0, 'two starts at once: never do both run');
is($none // 0, 0, '… nor none');
is_deeply(\%ended, { 2 => 10 }, '… the other exits 2');
is(scalar(() = ($stage->log_text('twin1') . $stage->log_text('twin2')) =~ /another process serves there: end it first/g), 10, '… and says why');
is(left(), '', 'nothing is left behind');

# A crash, and who else may be there
start('seatcast');
serving();
kill 'KILL', $stage->pid('seatcast');
$stage->wait_end('seatcast');
like(left(), qr/fcgi\.sock/, 'a crash leaves the socket');
start('seatcast', qw(--drain-timeout 5s));
ok(serving(), '… and the next start replaces it');
is(sprintf('%04o', (stat $path)[2] & 0777), '0660', '… with its mode');

# The successor need not wait
my @fans = map { $s->client("fan $_")->watch(1, 101)->expect_event('init') } 1 .. 30;
my @asked;
my $ask = sub { for (1 .. $_[0]) { push @asked, $s->client('asks')->request(GET => '/healthz'); $s->pass_time(0.01) } };
kill 'TERM', $stage->pid('seatcast');
$s->expect_log(qr/draining: streams end/);
start('successor', qw(--drain-timeout 0));
$s->expect('the successor starts while the other drains', sub { $ask->(2); $stage->log_text('successor') =~ /serving \S+fcgi\.sock/ }, 3);
ok(!$stage->ended('seatcast'), '… which is still there');
my $new;
$s->expect('who comes now is served', sub { $ask->(1); $new = $s->client('new')->watch(1, 101); $s->wait_for(sub { $new->{closed} || $new->events('init') }, 2); scalar $new->events('init') }, 4);
ok(!$stage->ended('seatcast'), '… before the other has ended');
my (%grey, %back);		# each comes back as an EventSource does
$s->expect('the other ends, and all its viewers are back', sub {
	$ask->(1);
	for my $f (@fans) {
		if (!$back{$f->{name}} && $f->{closed} && time >= $f->{closed_at} + $f->{retry} / 1000) {
			$back{$f->{name}} = [$f->{closed_at}, $f->{retry}];
			$f->reconnect;
		}
		$grey{$f->{name}} //= time - $back{$f->{name}}[0] if $back{$f->{name}} && ($f->events)[0];
	}
	$stage->ended('seatcast') && keys %grey == @fans;
}, 12);
my @seconds = sort { $a <=> $b } values %grey;
note(sprintf 'without seats for %.1f s (median), %.1f s at most', @seconds[@seconds / 2, -1]);
my $told = () = grep { $_->[1] <= 1000 } values %back;
cmp_ok($told, '>=', 20, "$told of 30 were told to come back at once, the others ended before the successor was seen");
is($stage->{proc}{seatcast}{status}, 0, '… with status 0');
$s->expect('all are answered', sub { !grep { !$_->{closed} } @asked });
is(scalar(grep { ($_->{status} // 0) != 200 } @asked), 0, 'of ' . @asked . ' connections meanwhile none was refused');
ok(-S $path && -e "$path.lock", 'the socket of the successor stays');
$_->close for @fans, $new;
is($stage->stop('successor', 'TERM'), 0, 'it ends');
is(left(), '', '… and leaves nothing');

# Others are left alone
my $other = IO::Socket::UNIX->new(Local => $path, Listen => 5) or die;
is(system(binary($stage) . " --listen $path 2>" . $s->dir . '/said') >> 8, 2, 'a path where somebody else listens: exit 2');
like(Stage::slurp($s->dir . '/said'), qr/another process serves there/, '… and why');
$other->close;
unlink $path;
socket my $control, AF_UNIX, SOCK_SEQPACKET, 0;
bind $control, pack_sockaddr_un($path);
listen $control, 5;
is(system(binary($stage) . " --listen $path 2>/dev/null") >> 8, 2, 'a socket of another kind: exit 2');
ok(-S $path, '… and it is still there');
close $control;
unlink $path;
for ('*:9000', '*:0', '*') {
	is(system(binary($stage) . " --listen '$_' 2>" . $s->dir . '/said') >> 8, 2, "--listen $_: exit 2");
	like(Stage::slurp($s->dir . '/said'), qr/\Aseatcast: --listen: \Q$_\E: write 0\.0\.0\.0:PORT or \[::\]:PORT for all addresses/, '… and what to write');
}
delete $stage->{proc}{$_} for qw(seatcast successor);
$s->done;
