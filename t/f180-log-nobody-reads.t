#!/usr/bin/env perl
# The log never keeps anybody waiting: with standard error a pipe, or a socket, that is full and nobody reads, everything is answered,
# SIGTERM ends it, lines that are lost are counted, and said once somebody reads again.  What others have open stays blocking for them.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Fcntl; use POSIX (); use Socket; use IO::Socket::UNIX; use Time::HiRes qw(time);

my $s = Scenario->new(seats => 5, lighttpd => 0, start => 0, log_level => 'debug');

# Many lines: connections that are no FastCGI.  True if all were closed.
sub chatter {
	my ($n) = @_;
	for (1 .. $n) {
		my $c = $s->fcgi->send("GET / HTTP/1.0\r\n\r\n");
		$c->closes(5) or return 0;
	}
	return 1;
}

for my $kind ('pipe', 'socket', 'other') {
	my ($r, $w);
	if ($kind eq 'socket') {
		socketpair($r, $w, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die;
		setsockopt($w, SOL_SOCKET, SO_SNDBUF, pack 'i', 4096);
	} else {
		pipe($r, $w) or die;
		fcntl($w, 1031, 4096);		# F_SETPIPE_SZ
	}
	fcntl $w, F_SETFD, 0;
	fcntl $w, F_SETFL, fcntl($w, F_GETFL, 0) & ~O_NONBLOCK;
	# "other": /proc does not let us open it anew, as when the pipe is another user's
	my @hide = $kind eq 'other' && $> == 0 && -x '/usr/bin/unshare' ? ('/usr/bin/unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@"', 'sh') : ();
	if ($kind eq 'other' && (!@hide || system("@hide[0, 1] sh -c 'mount -t tmpfs none /proc' 2>/dev/null") != 0)) {
		note('no mount namespaces here: not tried with a pipe that is not to be opened anew');
		next;
	}
	open my $wrap, '>', $s->dir . '/wrap' or die;
	print $wrap "#!/bin/bash\nexec 2>&" . fileno($w) . ' ' . fileno($w) . ">&-\nexec \"\$@\"\n";
	close $wrap;
	chmod 0755, $s->dir . '/wrap';
	{
		local $ENV{SEATCAST_WRAP} = join ' ', $s->dir . '/wrap', $ENV{SEATCAST_WRAP} // '';
		$s->start_seatcast;
	}
	ok(chatter(200), "$kind: full of lines, connections are still looked at");
	my $t = time;
	is($s->http(GET => '/healthz')->{status}, 200, '… /healthz');
	is($s->http(GET => $s->snapshot_path(1, 101))->{status}, 200, '… a snapshot');
	$s->expect_counter(log_lines_lost => '>', 0, within => 5);
	is(fcntl($w, F_GETFL, 0) & O_NONBLOCK, 0, '… our end of it is as it was');
	# somebody reads again
	my $text = '';
	fcntl $r, F_SETFL, O_NONBLOCK;
	$s->expect('… read again, the next line comes after one that says how many are lost', sub {
		while (sysread $r, my $more, 65536) { $text .= $more }
		chatter(1);
		$text =~ /warn  worker: log: [1-9]\d* lines before this one are lost: nobody took them\n/;
	}, 10);
	ok(!(grep { !/^\d{4}-\d\d-\d\dT\S+Z (?:error|warn |info |debug) \S.*: / } split /\n/, $text), '… and no line is torn');
	chatter(100);
	is($s->stop_seatcast('TERM', 8), 0, '… full again: SIGTERM ends it');
	close $_ for $r, $w;
}
$s->done;
