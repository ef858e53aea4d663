#!/usr/bin/env perl
# A supervisor is told how it is, as sd_notify(3) has it: READY=1 when a worker serves, WATCHDOG=1 as long as the master goes round
# (only where one is waited for), STOPPING=1 when it drains.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use IO::Socket::UNIX; use Socket qw(SOCK_DGRAM pack_sockaddr_un);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 4);
my $path = $s->dir . '/notify.sock';
my %name = (path => $path, abstract => "\@seatcast-test-$$");
for my $kind (sort keys %name) {
	my $local = $name{$kind} =~ s/\A@/\0/r;
	socket my $fh, Socket::PF_UNIX(), SOCK_DGRAM, 0 or die "socket: $!";
	bind $fh, pack_sockaddr_un($local) or die "bind: $!";
	$fh->blocking(0);
	my @told;
	my $told = sub { my ($what) = @_; while (defined(recv $fh, my $text, 512, 0)) { push @told, $text } return scalar grep { $_ eq $what } @told };
	my %watchdog = $kind eq 'path' ? (WATCHDOG_USEC => 15_000_000) : ();
	$s->start_seatcast(env => { NOTIFY_SOCKET => $name{$kind}, %watchdog });
	$s->expect("$kind: READY=1", sub { $told->('READY=1') }, 5);
	$s->expect("$kind: WATCHDOG=1, again and again", sub { $told->('WATCHDOG=1') >= 3 }, 10) if %watchdog;
	kill 'STOP', my $master = $s->pid('seatcast');
	$told->('');
	my $before = $told->('WATCHDOG=1');
	$s->pass_time(2.5);
	is($told->('WATCHDOG=1'), $before, "$kind: a master that hangs says nothing");
	kill 'CONT', $master;
	is($told->('STOPPING=1'), 0, "$kind: not yet STOPPING=1");
	is($s->stop_seatcast, 0, "$kind: it ends as it should");
	ok($told->('STOPPING=1'), "$kind: STOPPING=1");
	is(scalar(grep { $_ eq 'READY=1' } @told), 1, "$kind: READY=1 was said once");
	is($told->('WATCHDOG=1'), 0, "$kind: no WATCHDOG=1 where none is waited for") if !%watchdog;
}

# Its log, in systemd's journal, has priorities; a variable that is about another file means nothing.
my $log = $s->log_path('seatcast');
my @st = stat $log;
for my $journal ([1, "$st[0]:$st[1]", 'standard error is the journal: <6> and no clock'], [0, "$st[0]:1", 'it is not: a clock and no <6>']) {
	my ($is, $stream, $says) = @$journal;
	my $before = length $s->log_text('seatcast');
	$s->start_seatcast(env => { JOURNAL_STREAM => $stream });
	$s->stop_seatcast;
	my @lines = grep { /master: / } split /\n/, substr $s->log_text('seatcast'), $before;	# the look at the start may be late with its own
	is(scalar(grep { $is ? !/^<6>master: / : !/^\d{4}-\d\d-\d\dT[\d:.]+Z info  master: / } @lines), 0, $says) or diag "@lines";
	cmp_ok(scalar(@lines), '>', 2, '… in all lines');
}
$s->done;
