#!/usr/bin/env perl
# The primary dies, and the connection moves on to a standby that has not replayed what viewers have seen already.  Nothing older
# is shown after something newer: they hear stale, and go on when the standby has caught up.
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy;

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 20);
my $stage = $s->{stage};
start_standby($stage);
my $dir = $s->dir;
my $standby = $s->session(host => "$dir/pg2");
$s->start_seatcast(database => $s->pg_conninfo(host => "$dir/pg,$dir/pg2", user => 'seatcast_writer'), reconcile_interval => '60m');
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
$s->sql("SELECT seatcast.hold(1, 101, 7, '5m')");
$fan->expect_seat(101 => 'HOLD');

$standby->query('SELECT pg_wal_replay_pause()');
$s->expect('replay is paused', sub { $standby->value('SELECT pg_get_wal_replay_pause_state()') eq 'paused' }, 10);
$s->sql("SELECT seatcast.confirm(1, 7, '{101}'); SELECT seatcast.hold(1, 102, 8, '5m')");
$fan->expect_seat(101 => 'OCCUPIED', 102 => 'HOLD');
my ($lsn) = $s->sql('SELECT pg_current_wal_flush_lsn()');
$s->expect('the standby has received it', sub { $standby->value("SELECT pg_last_wal_receive_lsn() >= '$lsn->[0]'::pg_lsn") eq 't' }, 10);
$s->pg_stop('immediate');
$s->expect('the standby says that it is behind', sub { ($s->counter('polls_behind') // 0) > 0 }, 10);
$s->expect_log(qr/loop 1\/101: poll: this server is behind what was polled before; keeping what is newer/, within => 5);
$fan->expect_event('stale', within => 10);
is(join(' ', @{$fan->{seats}}{101, 102}), 'OCCUPIED HOLD', 'what was seen stays');
my $late = $s->client('late')->watch(1, 101)->expect_event('init', within => 5);
is(join(' ', @{$late->{seats}}{101, 102}), 'OCCUPIED HOLD', '… and is what a new viewer gets');
$standby = $s->session(host => "$dir/pg2");	# the old one ended with the primary
$standby->query('SELECT pg_wal_replay_resume()');
my $replayed = $s->wait_for(sub { $standby->value("SELECT pg_last_wal_replay_lsn() >= '$lsn->[0]'::pg_lsn") eq 't' }, 4);
SKIP: {
	skip 'the standby itself did not go on in time, and after 10 s its word counts', 5 if !$replayed;
	$fan->expect_event('fresh', within => 10);
	is(join(' ', @{$fan->{seats}}{101, 102}), 'OCCUPIED HOLD', 'caught up');
	is(scalar(grep { $_->{json}{data}{status} eq 'AVAILABLE' } $fan->events('update')), 0, 'nothing older was ever shown');
	$s->expect_counter(late_seats => 0)->expect_counter(polls_failed => 0);
}
$fan->close;
$late->close;
is($s->stop_seatcast, 0, 'seatcast ends as it should');
$standby->kill;
$stage->stop('standby', 'INT', 60);
$s->done(allow => qr/behind what was polled|database: (?:lost|back)|poll: good again|taking its word/);
