#!/usr/bin/env perl
# Descriptors 0 to 2 may be closed when we start (FastCGI 1.0, 2.2; some supervisors): nothing of ours becomes standard error,
# and everything works.  Signals that nobody here waits for end nothing.  A password on the command line is not shown by ps.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario;

my $s = Scenario->new(seats => 5, lighttpd => 0, start => 0);
sub start_closing {
	my ($closed, %o) = @_;
	local $ENV{SEATCAST_WRAP} = $s->dir . "/closing $closed " . ($ENV{SEATCAST_WRAP} // '');
	$s->start_seatcast(%o);
}
open my $script, '>', $s->dir . '/closing' or die;
print $script "#!/bin/sh\nhow=\$1; shift\ncase \$how in *0*) exec <&- ;; esac\ncase \$how in *1*) exec >&- ;; esac\ncase \$how in *2*) exec 2>&- ;; esac\nexec \"\$@\"\n";
close $script;
chmod 0755, $s->dir . '/closing';

for my $closed ('012', '12', '2') {
	start_closing($closed, log_level => 'debug');
	for my $pid ($s->pids('master'), $s->pids('worker')) {
		for my $fd (split //, $closed) {
			is(readlink("/proc/$pid/fd/$fd"), '/dev/null', "$closed closed: descriptor $fd of " . ($pid == ($s->pids('master'))[0] ? 'the master' : 'a worker') . ' is /dev/null');
		}
	}
	my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
	is($s->http(GET => '/status')->{status}, 200, '… /status');
	is($s->http(GET => $s->snapshot_path(1, 101))->{status}, 200, '… a snapshot');
	$s->http(GET => '/nothing') for 1 .. 3;
	$s->expect_counter(viewers => 1);
	is($s->counter('worker_restarts'), 0, '… nobody has died');
	if ($closed eq '2') {
		my ($worker) = $s->pids('worker');
		for my $signal (qw(USR2 ALRM HUP PIPE)) {
			kill $signal, $s->pid('seatcast'), $worker, $s->pids('loop');
			is($s->http(GET => '/healthz')->{status}, 200, "SIG$signal ends nothing");
		}
		$s->pass_time(0.3);
		is($s->counter('worker_restarts') + $s->counter('loop_crashes'), 0, '… and nobody was replaced');
	}
	$fan->close;
	is($s->stop_seatcast('TERM', 10), 0, '… exits 0');
}

# --check against a server that does not answer, so that there is time to look
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die;
$s->{stage}->spawn('check', ["$s->{stage}{build}/src/seatcast", '--check', '--database',
	'host=127.0.0.1 port=' . $silent->sockport . ' dbname=x user=x password=geheim connect_timeout=5']);
$s->expect('--check has its title', sub { Stage::slurp('/proc/' . $s->{stage}->pid('check') . '/cmdline') =~ /^seatcast: check/ }, 4);
unlike(Stage::slurp('/proc/' . $s->{stage}->pid('check') . '/cmdline'), qr/geheim/, '… and no password is left on its command line');
$s->{stage}->stop('check', 'KILL');
delete $s->{stage}{proc}{check};
$s->done;
