#!/usr/bin/env perl
# Every way to serve seatcast keeps the same promises: lighttpd (external socket, bin-path, spawn-fcgi), nginx, Apache with
# mod_proxy_fcgi and with mod_fcgid, each with its sample file.  What they do differently is printed as notes.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

my $slack = 0.3 * ($ENV{SEATCAST_PATIENCE} // 1);
my $poll = 0.2;
my $s = Scenario->new(start => 0, seats => 20, pg => { unix_socket_permissions => '0777' });	# mod_fcgid's processes are another user's
my $stage = $s->{stage};
chmod 0755, $s->dir . '/pg';
$s->stop_lighttpd;
my @options = ('--poll-interval', '200ms', '--heartbeat', '1s', '--drain-timeout', '1s', '--workers', '2', '--linger', '2s',
	'--database', $stage->pg_conninfo(user => 'seatcast_writer'));
my %timing;		# server => what => seconds or words
my $now;		# which server

# The program alone, where the server does not start it.
sub start_program {
	my ($server) = @_;
	return $s->start_seatcast(heartbeat => '1s', linger => '2s', $server =~ /^lighttpd$/ ? () : (listen_mode => '0666'),
		$server eq 'mod-fcgid' ? (control => $s->dir . '/control.sock', control_user => Deploy::web_user()) : ()) if $server ne 'spawn-fcgi';
	my $socket = $stage->{listen} = $s->dir . '/fcgi.sock';
	unlink $socket;
	return $stage->spawn('seatcast', [have('spawn-fcgi'), '-n', '-s', $socket, '-M', '0660', '-b', '4096', '--', binary($stage), @options]);
}

# Both; how to find the master.
sub start_both {
	my ($server) = @_;
	return start_bin_path() if $server eq 'bin-path';
	start_program($server);
	start_server($stage, $server eq 'spawn-fcgi' ? 'lighttpd' : $server);
	return sub { $stage->pid('seatcast') };
}
my %needs = ('bin-path' => 'lighttpd', 'spawn-fcgi' => 'spawn-fcgi', 'proxy-fcgi' => 'mod_proxy_fcgi', 'mod-fcgid' => 'mod_fcgid');

# The sample with bin-path in it: as its comments say not to, for those who have no supervisor, and how.
sub start_bin_path {
	my $dir = $s->dir;
	my $command = join ' ', binary($stage), @options[0 .. $#options - 2];
	my $database = $options[-1];
	unlink "$dir/fcgi.sock-0";
	$stage->start_lighttpd(edit => sub {
		s/("socket" => var\.socket,)/$1 "bin-path" => "$command", "max-procs" => 1, "listen-backlog" => 4096, "bin-environment" => ("SEATCAST_DATABASE" => "$database"),/ or die 'no socket in the sample';
		s/("server\.graceful-shutdown-timeout" => )5/${1}1/ or die 'no timeout in the sample';
	});
	$stage->{web} = 'lighttpd';
	$stage->{listen} = "$dir/fcgi.sock-0";
	return sub { my ($m) = tree(qr/^seatcast: master/, $stage->pid('lighttpd')); return $m && $m->[0] };
}

sub processes { my ($role) = @_; return map { $_->[0] } tree(qr{^seatcast: $role(?![\w/])}, $now->()) }
sub took { my ($server, $what, $cond, $within, $t) = @_; $t //= time; my $ok = $s->wait_for($cond, $within); $timing{$server}{$what} = $ok ? time - $t : undef; return $ok }
sub polls_in { my ($seconds, $block) = @_; my $n = $s->queries($block); my $t = time; $s->pass_time($seconds); return ($s->queries($block) - $n) / (time - $t) }

# /healthz again and again: how many were not answered with 200 (in time), and how long the slowest took.
sub ask_for {
	my ($seconds, $patience) = @_;
	my ($end, $refused, $worst) = (time + $seconds, 0, 0);
	while (time < $end) {
		my $q = time;
		my $h = eval { $s->http(GET => '/healthz', {}, undef, $patience)->{status} } // 0;
		$refused++ if $h != 200;
		$worst = time - $q if time - $q > $worst;
		$s->pass_time(0.02);
	}
	return ($refused, $worst);
}

my @want = grep { !$ENV{SEATCAST_SERVERS} || $_ =~ $ENV{SEATCAST_SERVERS} } qw(lighttpd bin-path spawn-fcgi nginx proxy-fcgi mod-fcgid);
for my $server (@want) {
	SKIP: {
		skip "$server: not installed", 1 if !have($needs{$server} // $server);
		subtest $server => sub { matrix($server) };
	}
	die "$server failed\n" if !Test::More->builder->is_passing;
}

sub matrix {
	my ($server) = @_;
	$s->sql('DELETE FROM allocations');
	$now = start_both($server);
	$s->expect('serves', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 10);

	# First bytes
	my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
	$timing{$server}{init} = $fan->{event_seen}{at} - $fan->{opened_at};
	$s->in_time($timing{$server}{init}, 1.5, sprintf 'first bytes and init after %.0f ms, though the stream does not end', 1000 * $timing{$server}{init});
	is(scalar(keys %{$fan->{seats}}), 20, '… with all seats');
	like($fan->{headers}{'content-type'}, qr{^text/event-stream; ?charset=utf-8$}i, 'its type');
	like($fan->{headers}{'cache-control'}, qr/no-store/, 'not to be stored');
	is($fan->{headers}{'content-encoding'}, undef, 'not compressed');

	# Updates
	my @delay;
	for my $seat (101 .. 105) {
		my $t = time;
		$s->sql("SELECT seatcast.hold(1, $seat, 7, '5m')");
		$fan->expect_seat($seat => 'HOLD');
		push @delay, time - $t;
	}
	@delay = sort { $a <=> $b } @delay;
	$timing{$server}{update} = $delay[-1];
	$s->in_time($delay[-1], $poll + $slack, sprintf 'five updates, the slowest after %.0f ms (poll: 200 ms)', 1000 * $delay[-1]);

	# Silence, beats
	$fan->expect_event('beat', within => 4);

	# Ordinary requests
	my $r = $s->http(GET => $s->snapshot_path(1, 101));
	is($r->{status}, 200, 'snapshot');
	is(scalar(@{$r->{json}{data}{seats}}), 20, '… with all seats');
	my $again = $s->http(GET => $s->snapshot_path(1, 101), { 'If-None-Match' => $r->{headers}{etag} });
	is($again->{status}, 304, 'its ETag: 304');
	for my $path ($s->snapshot_path(1, 101), $s->stream_path(1, 101), '/healthz') {
		my $h = $s->http(HEAD => $path);
		is("$h->{status} '$h->{body}'", "200 ''", "HEAD $path");
	}
	like($s->http(HEAD => $s->stream_path(1, 101))->{headers}{'content-type'}, qr{^text/event-stream}, '… a stream by its head');
	$r = $s->http(GET => $s->stream_path(1, 999));
	is($r->{status}, 404, 'no such block: 404');
	is($r->{json}{status}, 404, '… in the envelope');
	is($s->http(GET => '/api/nothing')->{status}, 404, 'no such path: 404');
	is($s->http(GET => $s->snapshot_path('01', 101))->{status}, 400, 'malformed id: 400');
	$r = $s->http(DELETE => $s->snapshot_path(1, 101));
	is($r->{status}, 405, 'DELETE: 405');
	like($r->{headers}{allow}, qr/GET/, '… with Allow');
	$r = $s->http(GET => '/api/site/areas');
	is($r->{json}{data}{areas}[0]{name}, 'North', 'the site');

	# Allocation
	$r = $s->http(POST => '/api/matches/1/allocation/seats/110/hold', {}, { userId => 7 });
	is("$r->{status} $r->{json}{data}{status}", '200 HOLD', 'POST hold');
	$fan->expect_seat(110 => 'HOLD');
	is($s->http(POST => '/api/matches/1/allocation/seats/110/hold', {}, { userId => 8 })->{status}, 409, '… by another: 409');
	is($s->http(POST => '/api/matches/1/allocation/seats/110/release', {}, { userId => 7 })->{status}, 204, 'release: 204');
	is($s->http(POST => '/api/matches/1/allocation/seats/110/hold', {}, '{')->{status}, 400, 'malformed body: 400');
	is($s->http(POST => '/api/matches/1/allocation/seats/110/hold', {}, 'x' x 20000)->{status}, 413, '20,000 bytes of body: 413');

	# Resume
	$fan->expect_seat(110 => 'AVAILABLE');
	$fan->close;
	$s->sql("SELECT seatcast.hold(1, 111, 7, '5m')");
	$fan->reconnect->expect_seat(111 => 'HOLD');
	is(scalar($fan->events('init')), 0, 'Last-Event-ID is passed on: no second init');

	# Two blocks
	my $other = $s->client('other')->watch(1, 102)->expect_event('init');
	$s->sql("SELECT seatcast.hold(1, 1000003, 7, '5m')");
	$other->expect_seat(1000003 => 'HOLD');
	ok(!exists $fan->{seats}{1000003}, 'two blocks do not mix');
	is(scalar(processes('loop')), 2, '… and have a loop each');

	# Disconnects
	$s->expect_counter(viewers => 2, within => 5);
	$other->close;
	ok(took($server, 'close seen', sub { ($s->counter('viewers') // 9) == 1 }, 6), 'a browser that closes is noticed')
	    and note(sprintf '%s: after %.2f s (a beat every second)', $server, $timing{$server}{'close seen'});

	# A crowd
	my $one = polls_in(2, 101);
	my $came = time;
	my @crowd = map { $s->client("viewer $_")->watch(1, 101) } 2 .. 40;
	ok(took($server, '39 more', sub { !grep { !$_->events('init') } @crowd }, 30 * ($ENV{SEATCAST_PATIENCE} // 1), $came), '40 viewers of one block: each has init') or return;
	note(sprintf '%s: 39 more viewers at once: all have init after %.2f s', $server, $timing{$server}{'39 more'});
	$s->expect_counter(viewers => 40, within => 5);
	my @loops = processes('loop 1/101');
	is(scalar(@loops), 1, '… by one loop');
	my $forty = polls_in(2, 101);
	cmp_ok($forty, '<', $one + 1, sprintf '… and the polls of one: %.1f a second, %.1f with one', $forty, $one);
	$s->sql("SELECT seatcast.confirm(1, 7, '{101,102}')");
	my $t = time;
	ok($s->wait_for(sub { !grep { ($_->{seats}{101} // '') ne 'OCCUPIED' } $fan, @crowd }, 3), '… all are told');
	$timing{$server}{'40 told'} = time - $t;
	if ($server eq 'mod-fcgid') {
		my @joined = tree(qr/^seatcast: worker/, $stage->pid('web'));
		cmp_ok(scalar(@joined), '>=', 40, scalar(@joined) . ' processes, one for each request');
		my (%sum, %most);
		for my $m (map { memory($_->[0]) } @joined) { for my $k (keys %$m) { $sum{$k} += $m->{$k}; $most{$k} = $m->{$k} if $m->{$k} > ($most{$k} // 0) } }
		note(sprintf 'joined worker, KiB on average (most): resident %d (%d), proportional %d (%d), private %d (%d), of it dirty %d (%d)',
			map { ($sum{$_} / @joined, $most{$_}) } qw(rss pss private dirty));
		cmp_ok($sum{private} / @joined, '<', 2048, 'a joined worker has less than 2 MiB for itself') if !$s->sanitized;
		my ($backends) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seatcast'");
		note("database connections: $backends->[0]");
	}

	# All leave
	$_->close for @crowd;
	ok(took($server, '39 gone', sub { ($s->counter('viewers') // 99) == 1 }, 10), 'all who leave are noticed');

	# Reload with a stream open: new requests are served; the stream may stay or end cleanly, and then goes on
	if ($server eq 'bin-path') {
		# lighttpd cannot start anew in the background there: it waits for its streams, one second, starts another
		# seatcast, and who comes meanwhile waits in its socket
		my $master = $now->();
		reload_server($stage, $server);
		$s->sql("SELECT seatcast.hold(1, 120, 9, '5m')");
		my $began = time;
		my ($refused, $worst) = ask_for(4, 15);
		is($refused, 0, 'reload: nobody is refused');
		ok($worst > 0.5 && $worst < 4 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '… who comes meanwhile waits, %.1f s at most, until the streams have ended', $worst);
		$fan->expect_closed;
		$timing{$server}{reload} = sprintf 'ends it (%s) after %.1f s', $fan->{closed}, $fan->{closed_at} - $began;
		isnt($now->(), $master, '… another seatcast serves');
		is(scalar(processes('master')), 1, '… it alone');
		$fan->reconnect->expect_event('init')->expect_seat(120 => 'HOLD');
	} else {
		my @were = tree(qr/^seatcast: worker/, $stage->pid($stage->{web}));
		reload_server($stage, $server);
		my $began = time;
		my ($refused, $worst) = ask_for(3, 5);
		note(sprintf '%s: reload with a stream open: %d requests failed, the slowest took %.0f ms', $server, $refused, 1000 * $worst);
		if ($server eq 'mod-fcgid') {
			my %still = map { $_->[0] => 1 } tree(qr/^seatcast: worker/, $stage->pid('web'));
			note(sprintf '%s: of %d joined workers %d are still there', $server, scalar @were, scalar grep { $still{$_->[0]} } @were);
		}
		$s->wait_for(sub { $fan->{closed} }, 6);
		$timing{$server}{reload} = $fan->{closed} ? sprintf 'ends it (%s) after %.1f s', $fan->{closed}, $fan->{closed_at} - $began : 'stream goes on';
		note("$server: $timing{$server}{reload}");
		cmp_ok($refused, '<=', 2, 'reload: served on');
		$fan->reconnect if $fan->{closed};
		$s->sql("SELECT seatcast.hold(1, 120, 9, '5m')");
		$fan->expect_seat(120 => 'HOLD');
	}

	# seatcast goes, with a stream open, and comes back
	if ($server eq 'bin-path') {
		kill 'TERM', $now->();
		$fan->expect_closed;
		$s->expect('lighttpd starts it again', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 15);
	} else {
		my $status = $s->stop_seatcast;
		is($status, 0, 'seatcast ends as it should');
		$fan->expect_closed(how => 'clean');
		my $asked = time;
		my $h = $s->http(GET => '/healthz', {}, undef, 30)->{status} // 'nothing';
		$timing{$server}{away} = sprintf '%s, %.1f s', $h, time - $asked;
		# a joined worker that finds no master serves what needs none
		like($h, $server eq 'mod-fcgid' ? qr/^200$/ : qr/^50[0234]$/, "seatcast away: $timing{$server}{away}");
		start_program($server);
		ok(took($server, 'back', sub { ($s->http(GET => '/healthz')->{status} // 0) == 200 }, 15), 'it comes back');
	}
	$fan->reconnect->expect_event('init');
	$fan->close;
	stop_server($stage);
	my $group = $stage->{last_group};
	is($s->stop_seatcast, 0, 'seatcast ends as it should') if $server ne 'bin-path';
	ok($s->wait_for(sub { !grep { $_->[2] == $group } Stage::processes() }, 5), 'no process of the server or its children is left')
	    or diag(join "\n", map { "@$_" } grep { $_->[2] == $group } Stage::processes());
	unlike($s->log_text('error'), qr/FastCGI: .*(?:truncated|malformed)|Premature end of script headers|upstream prematurely closed/i, 'the server saw no request cut off');
	rename $s->log_path('error'), $s->log_path("error-$server");
	return;
}

# The table of the manual
my @what = ('init', 'update', 'close seen', '39 more', '40 told', '39 gone', 'back', 'away', 'reload');
note(sprintf '%-11s' . ' %-10s' x @what, 'server', @what);
for my $server (grep { $timing{$_} } @want) {
	note(sprintf '%-11s' . ' %-10s' x @what, $server, map { my $v = $timing{$server}{$_}; !defined $v ? '-' : $v =~ /^\d+\.\d+$/ ? sprintf '%.2f s', $v : $v } @what);
}
$s->done;
