#!/usr/bin/env perl
# SPEC 4: times without zone are UTC unless the database says otherwise in seatcast.time_zone: then another application's local times are
# understood, and holds end at their moment.  Allocation writes local times too, and answers in UTC.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Time::HiRes qw(time); use Time::Local qw(timegm);

my $s = Scenario->new(seats => 20, lighttpd => 0, poll_interval => '1s', start => 0);
my $slack = 0.15 * ($ENV{SEATCAST_PATIENCE} // 1);
my $seat = 101;
sub epoch { my ($text) = @_; my ($y, $mo, $d, $h, $mi, $s, $f) = ($text // '') =~ /\A(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)(\.\d+)?Z\z/ or return 0; return timegm($s, $mi, $h, $d, $mo - 1, $y) + ($f // 0) }

for my $zone ('Asia/Seoul', 'America/Los_Angeles', 'Asia/Kathmandu', undef) {
	my $name = $zone // 'UTC';
	$s->sql($zone ? "ALTER DATABASE seatcast SET seatcast.time_zone = '$zone'" : 'ALTER DATABASE seatcast RESET seatcast.time_zone');
	$s->start_seatcast(hold_duration => '3s');
	my $c = $s->client($name)->watch(1, 101)->expect_event('init');

	# Another application, whose sessions have a zone of their own, writes local wall-clock time.
	my ($theirs, $ours, $over) = ($seat++, $seat++, $seat++);
	my $app = $s->session;
	$app->query("SET TimeZone = 'Europe/Paris'");
	my $end = $app->value("INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at) VALUES (1, $theirs, 7, 'HOLD', (clock_timestamp() + interval '2.6 s') AT TIME ZONE '$name'),
		(1, $over, 7, 'HOLD', (clock_timestamp() - interval '1 min') AT TIME ZONE '$name') RETURNING extract(epoch FROM hold_expires_at AT TIME ZONE '$name')");
	$app->kill;
	$c->expect_seat($theirs => 'HOLD', within => 2);
	my $t = time;
	my $r = $s->http(POST => "/api/matches/1/allocation/seats/$ours/hold", {}, { userId => 7 });
	is($r->{status}, 200, "$name: POST hold");
	my $said = epoch($r->{json}{data}{holdExpiresAt});
	cmp_ok(abs($said - $t - 3), '<', 0.5, "… holdExpiresAt is UTC: $r->{json}{data}{holdExpiresAt}");
	my ($row) = $s->sql("SELECT extract(epoch FROM hold_expires_at AT TIME ZONE '$name') FROM allocations WHERE seat_id = $ours");
	cmp_ok(abs($row->[0] - $said), '<', 0.002, '… the row has it in the zone of the database');
	$c->expect_seat($ours => 'HOLD', within => 2);
	for ([$theirs, $end, 'a hold of local time'], [$ours, $said, 'one of ours']) {
		my ($id, $at, $says) = @$_;
		$c->expect_seat($id => 'AVAILABLE', within => 5);
		my ($e) = grep { $_->{json}{data}{seatId} == $id && $_->{json}{data}{status} eq 'AVAILABLE' } $c->events('update');
		$s->in_time(abs($e->{at} - $at), $slack, sprintf '%s: %s ends %+.0f ms from its moment', $name, $says, 1000 * ($e->{at} - $at));
	}
	is(scalar(grep { $_->{json}{data}{seatId} == $over } $c->events('update')), 0, '… and one that was over when written was never shown');
	is($s->http(POST => "/api/matches/1/allocation/seats/$over/hold", {}, { userId => 8 })->{status}, 200, '… and may be taken by another user');
	$c->close;
	is($s->stop_seatcast, 0, '… exits 0');
}
# A zone that is none: polls fail in words, --check too.
$s->sql("ALTER DATABASE seatcast SET seatcast.time_zone = 'Mars/Olympus'");
$s->start_seatcast;
my $c = $s->client('Mars')->watch(1, 101);
$s->expect_log(qr/Mars\/Olympus/, within => 5);
$s->sql('ALTER DATABASE seatcast RESET seatcast.time_zone');
$s->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'seatcast'");
$c->close;
$s->expect('mended: served again', sub { my $n = $s->client('again')->watch(1, 101); $s->wait_for(sub { $n->events || $n->{closed} }, 3); $n->events('init') }, 10);
$s->done;
