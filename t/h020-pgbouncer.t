#!/usr/bin/env perl
# Through PgBouncer with transaction pooling: streams, late commits, allocation, and 64 groups over 20 server connections,
# without a word about prepared statements or session state in any log.  PgBouncer restarted: streams go on.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

plan skip_all => 'pgbouncer is not installed' if !have('pgbouncer');
my $groups = $ENV{SEATCAST_GROUPS} // 64;	# t/slow/s300-pgbouncer.t: 300
my $s = Scenario->new(start => 0, lighttpd => 0, seats => 20, poll_interval => '500ms', max_groups => $groups + 4, pg => { max_connections => 60 });
my $stage = $s->{stage};
my $slack = 0.3 * ($ENV{SEATCAST_PATIENCE} // 1);
$s->sql(<<~SQL);
	INSERT INTO blocks (id, section_id, name) SELECT n, 1, n FROM generate_series(201, 200 + $groups) n;
	INSERT INTO seats (id, block_id, row_number, seat_number) SELECT 2000000 + 100 * b + i, b, 1, i FROM generate_series(201, 200 + $groups) b, generate_series(0, 9) i;
	SQL
my $database = start_pgbouncer($stage);
$s->start_seatcast(database => $database, stall_timeout => '60m');
sub backends { my ($row) = $s->sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'seatcast_writer'"); return $row->[0] }

# A stream, a late commit
my $fan = $s->client('fan')->watch(1, 101)->expect_event('init');
my $t = $s->session;
$t->query("BEGIN; SELECT seatcast.hold(1, 101, 7, '5m')");
$s->sql("SELECT seatcast.hold(1, 102, 7, '5m')");
$fan->expect_seat(102 => 'HOLD');
$s->pass_time(1.2);
is($fan->{seats}{101}, 'AVAILABLE', 'not shown before its commit');
my $before = time;
$t->query('COMMIT');
$fan->expect_seat(101 => 'HOLD');
$s->in_time(time - $before, 0.5 + $slack, sprintf 'a late commit: %.0f ms after it (poll: 500 ms)', 1000 * (time - $before));

# Allocation, site
my $r = $s->http(POST => '/api/matches/1/allocation/seats/110/hold', {}, { userId => 7 });
is($r->{status}, 200, 'hold');
is($s->http(POST => '/api/matches/1/allocation/seats/110/hold', {}, { userId => 8 })->{status}, 409, '… by another: 409');
is($s->http(POST => '/api/matches/1/allocation/seats/confirm', {}, { userId => 7, seatIds => [110] })->{status}, 200, 'confirm');
$fan->expect_seat(110 => 'OCCUPIED');
is($s->http(GET => '/api/site/areas')->{json}{data}{areas}[0]{name}, 'North', 'the site');
is($s->http(GET => '/api/matches/1/blocks/9/seats')->{status}, 404, 'no such block');

# The role's own settings hold there
my $role = $s->session(host => $s->dir . '/pgbouncer', port => 6432, user => 'seatcast_writer');
is($role->value('SHOW statement_timeout'), '4s', "the role's settings hold through the pool");
$role->kill;

# --check notices it, and does not count its own connections against the server's
for (1, 2) {		# twice over one server connection: it leaves nothing behind
	my $check = qx{'@{[ binary($stage) ]}' --check --max-groups $groups --max-streams 100 --database '$database' 2>&1};
	is($?, 0, '--check: exit 0') or diag($check);
	like($check, qr/^pooler: yes; .* @{[ $groups + 8 ]} connections/m, '… with a word about the pooler');
	unlike($check, qr/^(?:error|warning)/m, '… and nothing to complain about');
}

# Many groups
my $began = time;
my @many = map { $s->client("block $_")->watch(1, $_) } 201 .. 200 + $groups;
ok($s->wait_for(sub { !grep { !$_->events('init') } @many }, 60), sprintf '%d more groups at once: all have init', $groups) or die "not all\n";
note(sprintf 'after %.1f s', time - $began);
is(scalar($s->pids('loop')), $groups + 1, 'a loop for each');
my $most = 0;
for (1 .. 6) {
	$s->sql("SELECT seatcast.hold(1, 2000000 + 100 * b + $_, 7, '5m') FROM generate_series(201, 200 + $groups) b");
	my $at = time;
	my $n = $_;
	ok($s->wait_for(sub { !grep { my ($b) = $_->{name} =~ /(\d+)/; ($_->{seats}{2000000 + 100 * $b + $n} // '') ne 'HOLD' } @many }, 10), "a change in each of $groups groups has arrived everywhere");
	note(sprintf 'after %.0f ms', 1000 * (time - $at));
	my $now = backends();
	$most = $now if $now > $most;
}
cmp_ok($most, '<=', 20, "over $most server connections");
my $stop = time;
my $polls = $s->queries;
$s->pass_time(5);
my $rate = ($s->queries - $polls) / (time - $stop);
cmp_ok(abs($rate / (2 * ($groups + 1)) - 1), '<', 0.25, sprintf '%.0f polls a second of %d groups, every 500 ms', $rate, $groups + 1);

# PgBouncer restarted under them
$stage->stop('pgbouncer', 'INT');
$fan->expect_event('stale', within => 10);
$s->sql("SELECT seatcast.hold(1, 115, 7, '5m')");
start_pgbouncer($stage);
$fan->expect_event('fresh', within => 15);
$fan->expect_seat(115 => 'HOLD');
is(scalar($fan->events('init')), 1, '… the same stream');
is(scalar(grep { $_->{closed} } $fan, @many), 0, 'no stream was ended');
$s->expect_counter(late_seats => 0, labels => qr/block="2/);

my $said = qr/prepared statement|unnamed|protocol|session|search_path|already exists|ERROR|WARN|unsupported startup|query_wait_timeout/;
is(join("\n", grep { /$said/ && !/server_connect_failed|connect failed/ } split /\n/, $s->log_text('pgbouncer')), '', "PgBouncer's log is clean");
is(join("\n", grep { /(?:ERROR|FATAL|WARNING):/ && !/administrator command|starting up/ } split /\n/, $s->log_text('postgresql')), '', "PostgreSQL's is");
is(join("\n", grep { /\bwarn\b|\berror\b/ && !/database: lost| check: / } split /\n/, $s->log_text('seatcast')), '', "seatcast's is, but for the restart");
$_->close for $fan, @many;
my $status = $s->stop_seatcast;
is($status, 0, 'seatcast ends as it should');
$stage->stop('pgbouncer', 'INT');
$s->done;
