#!/usr/bin/env perl
# Another application's tables are served by rewriting the port functions alone: what doc/other-schema.md says, done as it says.
# Whatever the shop's own code writes is on the streams within a poll, and no reconcile helps.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use List::Util qw(any); use Time::HiRes qw(time);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 1, poll_interval => '100ms', reconcile_interval => '60m', hold_duration => '2m', pg => { deadlock_timeout => '100ms' });
my $stage = $s->{stage};
my $within = 0.1 + 0.25 * ($ENV{SEATCAST_PATIENCE} // 1);
my $db = $s->pg_conninfo(dbname => 'try', user => 'seatcast_writer');

# The commands of the page, in the tree's top directory, with our server where libpq finds it.
my ($intro) = split /^## /m, Stage::slurp("$stage->{src}/doc/other-schema.md");
my %page = map { /^(\w+(?: --check)?)/ => $_ } reverse $intro =~ /^    (\S.*)$/mg;	# the first of each kind
my ($example) = $intro =~ /^    (psql .*INSERT INTO.*)$/m;
sub shell {
	my ($command) = @_;
	local %ENV = (%ENV, PGHOST => $s->dir . '/pg', PGPORT => $stage->{pg_port}, PGUSER => 'postgres', PATH => $stage->pg_bin('') . ":$ENV{PATH}");
	my $said = qx{cd '$stage->{src}' && exec 2>&1; seatcast() { '@{[ binary($stage) ]}' "\$@"; }; $command};
	return $? >> 8, $said;
}
sub page_says { my ($command) = @_; my ($status, $said) = shell($command); is($status, 0, $command =~ s/\A(.{90}).+/$1…/r) or diag($said); return $said }
sub dump_of { return join '', grep { !/^\\(?:un)?restrict/ } map { "$_\n" } split /\n/, (shell('pg_dump try'))[1] }

is(page_says($page{createdb}), '', '… silently');
is(page_says($page{psql}), '', '… silently');
unlike(page_says($page{'seatcast --check'}), qr/^(?:error|warning)/m, '… has nothing to complain about');

# The shop's own code: knows nothing of seatcast, has a zone of its own.
my $admin = $s->session(dbname => 'try');
$admin->query('CREATE ROLE shop_app LOGIN; GRANT USAGE ON SCHEMA shop TO shop_app; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO shop_app');
sub shop { my $t = $s->session(dbname => 'try', user => 'shop_app'); $t->query("SET TimeZone = 'Europe/Paris'"); return $t }
my $shop = shop();
sub seoul { my ($in) = @_; return "timezone('Asia/Seoul', clock_timestamp() + interval '$in')" }
sub ticket { my ($chair, $state, $until, $game) = @_; return 'INSERT INTO shop.ticket (game_no, chair_no, member_no, state, reserved_until) VALUES (' . join(', ', $game // 7, $chair, 7, "'$state'", $until // 'NULL') . ')' }
sub live { my ($chair) = @_; return "WHERE game_no = 7 AND chair_no = $chair AND state <> 'CANCELED'" }

$s->start_seatcast(database => $db);
my %fan = map { $_ => $s->client("stand $_")->watch(7, $_)->expect_event('init') } 110, 111;
my $second = $s->client('second day')->watch(8, 110)->expect_event('init');
sub stream { my ($chair) = @_; return $fan{$chair < 110100 ? 110 : 111} }
is(scalar(keys %{$fan{$_}{seats}}), 100, "stand $_ has its chairs") for 110, 111;

# Do something: the chairs show these within a poll.
sub soon {
	my ($says, $do, %want) = @_;
	my $at = time;
	ref $do ? $do->() : $shop->query($do);
	stream($_)->expect_seat($_ => $want{$_}, within => 3) for sort keys %want;
	$s->in_time(time - $at, $within, sprintf '%s: after %.0f ms', $says, 1000 * (time - $at));
	return;
}
sub nothing_new {	# and polls go on: what comes after it does arrive
	my ($says, $chair, $do) = @_;
	my @before = map { scalar $_->events } values %fan;
	ref $do ? $do->() : $shop->query($do);
	soon("$says: no event but the next", ticket($chair, 'PAID'), $chair => 'OCCUPIED');
	my @new = map { scalar $_->events } values %fan;
	is($new[0] + $new[1] - $before[0] - $before[1], 1, '… indeed');
	return;
}

# ---- what the shop writes ----

soon('the example of the page', sub { page_says($example) }, 110003 => 'OCCUPIED');
soon('RESERVED', ticket(110001, 'RESERVED', seoul('5 min')), 110001 => 'HOLD');
soon('PAID', "UPDATE shop.ticket SET state = 'PAID' @{[ live(110001) ]}", 110001 => 'OCCUPIED');
soon('CANCELED', "UPDATE shop.ticket SET state = 'CANCELED' @{[ live(110001) ]}", 110001 => 'AVAILABLE');
soon('another ticket for the same chair', ticket(110001, 'RESERVED', seoul('5 min')), 110001 => 'HOLD');
nothing_new('a canceled ticket is written to', 110002, 'UPDATE shop.ticket SET member_no = 8 WHERE chair_no = 110001 AND state = \'CANCELED\'');
nothing_new('a game of the other day', 110004, ticket(110005, 'PAID', undef, 8));
$second->expect_seat(110005 => 'OCCUPIED', 110001 => 'AVAILABLE');
soon('BLOCKED', ticket(110006, 'BLOCKED'), 110006 => 'OCCUPIED');
soon('the ticket deleted', 'DELETE FROM shop.ticket ' . live(110006), 110006 => 'AVAILABLE');
soon('all tickets of a chair deleted', 'DELETE FROM shop.ticket WHERE game_no = 7 AND chair_no = 110001', 110001 => 'AVAILABLE');
soon('RESERVED without an end', ticket(110007, 'RESERVED'), 110007 => 'HOLD');
soon('moved to a chair in another stand', 'UPDATE shop.ticket SET chair_no = 110107 ' . live(110007), 110007 => 'AVAILABLE', 110107 => 'HOLD');
soon('moved to the other day', 'UPDATE shop.ticket SET game_no = 8 ' . live(110107), 110107 => 'AVAILABLE');
soon('many at once', 'INSERT INTO shop.ticket (game_no, chair_no, state) SELECT 7, chair_no, \'PAID\' FROM shop.chair WHERE chair_no % 100 >= 80', map { $_ => 'OCCUPIED' } 110080 .. 110099, 110180 .. 110199);
soon('as replication writes it', sub { $admin->query("SET session_replication_role = replica; @{[ ticket(110008, 'PAID') ]}; RESET session_replication_role") }, 110008 => 'OCCUPIED');

# Late commits; others commit meanwhile, over several polls.
my ($late, $chair) = (shop(), 110100);
for my $way ('%s', 'SAVEPOINT a; %s; RELEASE a', 'SAVEPOINT a; %1$s; ROLLBACK TO a; %1$s') {
	my ($mine, @others) = ($chair++, $chair++, $chair++);
	$late->query('BEGIN; ' . sprintf $way, ticket($mine, 'PAID'));
	for my $other (@others) { $shop->query(ticket($other, 'PAID')); stream($other)->expect_seat($other => 'OCCUPIED') }
	is(stream($mine)->{seats}{$mine}, 'AVAILABLE', 'not shown before its commit');
	soon('a late commit', sub { $late->query('COMMIT') }, $mine => 'OCCUPIED');
}
$late->query("BEGIN; @{[ ticket(110120, 'PAID') ]}; PREPARE TRANSACTION 'late'");
soon('one that did not wait for it', ticket(110121, 'PAID'), 110121 => 'OCCUPIED');
soon('prepared, committed by another session', sub { $admin->query("COMMIT PREPARED 'late'") }, 110120 => 'OCCUPIED');
nothing_new('rolled back', 110122, sub { $late->query("BEGIN; @{[ ticket(110123, 'PAID') ]}; ROLLBACK") });

# Holds end at their moment, by the clock on the shop's wall.
for ([110030, 1.3], [110130, 1.75]) {
	my ($c, $seconds) = @$_;
	my $end = $shop->value(ticket($c, 'RESERVED', seoul("$seconds s")) . " RETURNING extract(epoch FROM reserved_until AT TIME ZONE 'Asia/Seoul')");
	stream($c)->expect_seat($c => 'HOLD', within => 1)->expect_seat($c => 'AVAILABLE', within => 4);
	my ($e) = grep { $_->{json}{data}{seatId} == $c && $_->{json}{data}{status} eq 'AVAILABLE' } stream($c)->events('update');
	$s->in_time(abs($e->{at} - $end), 0.15 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf 'a reservation ends %+.0f ms from its moment', 1000 * ($e->{at} - $end));
}
nothing_new('over when written', 110140, ticket(110141, 'RESERVED', seoul('-1 min')));

# ---- the stadium, and what is not there ----

sub get { my ($path) = @_; my $r = $s->http(GET => $path); return "$r->{status} $r->{body}" }
is(get('/api/site/areas'), '200 {"status":200,"data":{"areas":[{"id":1,"name":"Infield"}]}}', 'areas');
is(get('/api/site/areas/1/sections'), '200 {"status":200,"data":{"sections":[{"id":11,"name":"Infield, first base"}]}}', 'sections');
is(get('/api/site/sections/11/blocks'), '200 {"status":200,"data":{"blocks":[{"id":110,"name":"110"},{"id":111,"name":"111"}]}}', 'blocks');
my $seats = $s->http(GET => '/api/site/blocks/111/seats')->{json}{data}{seats};
is(scalar(@$seats), 100, 'seats');
is(join(' ', map { join '/', @$_{qw(id rowNumber seatNumber)} } @$seats[0, 9, 10, 99]), '110100/1/1 110109/1/10 110110/2/1 110199/10/10', '… rows have numbers');
like(get($_), qr/\A404 \{"status":404,"message":"[^"]+"\}\z/, "$_: 404") for '/api/site/areas/2/sections', '/api/site/sections/12/blocks', '/api/site/blocks/112/seats',
	map { $s->stream_path(@$_), $s->snapshot_path(@$_) } [7, 112], [9, 110], [9223372036854775807, 110], [7, 9223372036854775807];
$shop->query('UPDATE shop.game SET canceled = true WHERE game_no = 8');
like(get($s->stream_path(8, 111)), qr/\A404 /, 'a canceled game: 404 for a new stream');
$shop->query(ticket(110009, 'PAID', undef, 8));
$second->expect_seat(110009 => 'OCCUPIED', within => 2);

# ---- buyers that come through seatcast ----

sub post { my ($what, $body, $game) = @_; return $s->http(POST => "/api/matches/@{[ $game // 7 ]}/allocation/seats/$what", {}, $body)->{status} }
sub tickets { my ($c) = @_; return join ', ', map { join ' ', map { $_ // '-' } @$_ } $shop->query("SELECT member_no, state FROM shop.ticket WHERE game_no = 7 AND chair_no = $c ORDER BY ticket_no") }
my $hold = $s->http(POST => '/api/matches/7/allocation/seats/110020/hold', {}, { userId => 7 });
is($hold->{status}, 200, 'hold');
my $row = $shop->value("SELECT to_char(reserved_until - interval '9 h', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM shop.ticket @{[ live(110020) ]}");
is(substr($hold->{json}{data}{holdExpiresAt}, 0, 22), substr($row, 0, 22), '… the row has the same end, in Seoul');
cmp_ok(abs($shop->value("SELECT extract(epoch FROM '$row'::timestamptz - clock_timestamp())") - 120), '<', 5, '… two minutes from now');
$fan{110}->expect_seat(110020 => 'HOLD', within => 2);
is(post('110020/hold', { userId => 8 }), 409, '… another may not');
is(post('110020/hold', { userId => 7 }), 200, '… renewed');
is(post('110020/release', { userId => 8 }), 409, '… nor release it');
is(post('110020/release', { userId => 7 }), 204, 'release');
$fan{110}->expect_seat(110020 => 'AVAILABLE', within => 2);
is(post('110020/hold', { userId => 8 }), 200, '… then another holds it');
is(post('110021/hold', { userId => 8 }), 200, '… and one more');
is(post('confirm', { userId => 8, seatIds => [110020, 110003] }), 409, 'confirm with one that the shop has sold');
is(post('confirm', { userId => 7, seatIds => [110020] }), 409, 'confirm what another holds');
is(post('confirm', { userId => 8, seatIds => [110020, 110022] }), 409, 'confirm with one that nobody holds');
is(post('confirm', { userId => 8, seatIds => [110020, 999] }), 404, 'confirm with no chair');
is(tickets(110020), '7 CANCELED, 8 RESERVED', '… changes nothing, and the history is the shop\'s');
is(post('confirm', { userId => 8, seatIds => [110021, 110020] }), 200, 'confirm');
$fan{110}->expect_seat(110020 => 'OCCUPIED', 110021 => 'OCCUPIED', within => 2);
is(tickets(110020), '7 CANCELED, 8 PAID', '… the shop sees it as paid');
is(post('110003/hold', { userId => 7 }), 409, 'hold of what the shop has sold');
is(post('110003/release', { userId => 7 }), 409, '… release of it');
$shop->query("UPDATE shop.ticket SET state = 'CANCELED' @{[ live(110003) ]}");
is(post('110003/hold', { userId => 7 }), 200, '… canceled by the shop, it can be had');
$shop->query(ticket(110023, 'RESERVED', seoul('-1 s')));
is(post('110023/release', { userId => 7 }), 409, 'release of a reservation that is over');
is(post('confirm', { userId => 7, seatIds => [110023] }), 409, '… confirmation');
is(post('110023/hold', { userId => 9 }), 200, '… another may have it');
is(tickets(110023), '9 RESERVED', '… in place');
is(post($_->[0] . '/hold', { userId => 7 }, $_->[1]), 404, "hold of $_->[2]: 404") for [999, 7, 'no chair'], [110030, 9, 'a chair, but no game'], [110030, 8, 'a chair in a canceled game'];
my @buyers = map { $s->client("buyer $_")->request(POST => '/api/matches/7/allocation/seats/110031/hold', {}, "{\"userId\":$_}") } 1 .. 20;
$s->wait_for(sub { !any { !$_->{closed} } @buyers });
is(join(' ', sort map { $_->{status} } @buyers), join(' ', 200, (409) x 19), 'of twenty buyers one wins');
for my $end (['COMMIT', 409], ['ROLLBACK', 200]) {		# the shop is selling it: the buyer waits for what comes of it
	$late->query('BEGIN; ' . ticket(110032, 'PAID'));
	my $buyer = $s->client('buyer')->request(POST => '/api/matches/7/allocation/seats/110032/hold', {}, '{"userId":7}');
	$s->expect('a buyer waits for the shop', sub { $admin->value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'try' AND usename = 'seatcast_writer' AND wait_event_type = 'Lock'") }, 5);
	$late->query($end->[0]);
	$buyer->expect_status($end->[1]);
	$shop->query('DELETE FROM shop.ticket WHERE chair_no = 110032');
}
$s->expect_counter(late_seats => 0);

# ---- the script again, as the page says and without the sample, while somebody reads and somebody writes; a restart ----

my ($before, @seen) = (dump_of(), map { scalar $_->events } values %fan);
is(page_says($page{psql}), '', 'the script run again: silent');
$shop->query('BEGIN; SELECT count(*) FROM shop.ticket; UPDATE shop.ticket SET member_no = member_no WHERE chair_no = 110040');
is(page_says($page{psql} =~ s/ -v sample=1//r), '', '… without the sample, while a transaction reads and writes tickets');
$shop->query('ROLLBACK');
is(dump_of(), $before, '… changes nothing');
nothing_new('… viewers notice nothing', 110040, '');
$shop->query(ticket(110041, 'PAID'));
$s->stop_seatcast;
$shop->query("@{[ ticket(110042, 'RESERVED', seoul('5 min')) ]}; DELETE FROM shop.ticket @{[ live(110041) ]}");
$s->start_seatcast(database => $db);
$_->reconnect->expect_event('init') for values %fan;
$fan{110}->expect_seat(110040 => 'OCCUPIED', 110041 => 'AVAILABLE', 110042 => 'HOLD');
soon('after a restart', ticket(110041, 'PAID'), 110041 => 'OCCUPIED');

# What a poll reads is what was touched in its stand; a cursor that it cannot know is answered with all of it.
my $cursor = $admin->value('SELECT next_cursor FROM seatcast.snapshot(7, 110) WHERE seat_id IS NULL');
$shop->query(join '; ', ticket(110045, 'PAID'), ticket(110145, 'PAID'), ticket(110046, 'PAID', undef, 8));
sub seats_since { my ($since) = @_; return $admin->value("SELECT string_agg(seat_id::text, ' ' ORDER BY seat_id) FROM seatcast.changes(7, 110, $since)") }
is(seats_since("'$cursor'"), '110045', 'a poll reads what was touched');
is(seats_since($_), join(' ', 110000 .. 110099), "… and with the cursor $_ the whole stand") for 'NULL', "''", "'2026-01-01 00:00:00.000000'", "'9223372036854775807'", "'99999999999999999999'", "'-1'";

# ---- anything, by three at once, with commits that come late: in the end viewers have what the tables say ----

my $seed = $ENV{SEED} // int rand 2**31;
srand $seed;
note("SEED=$seed");
sub any_of { return $_[rand @_] }
sub any_chair { return 110050 + any_of(0, 100) + int rand 6 }
sub any_end { return any_of('NULL', seoul('1 h'), seoul('-1 s'), seoul(sprintf '%.2f s', rand 1.5)) }
sub any_write {
	my $c = any_chair();
	my $sell = ticket($c, any_of(qw(RESERVED RESERVED PAID BLOCKED CANCELED)), any_end()) . ' ON CONFLICT DO NOTHING';
	return any_of($sell, $sell, $sell,
		"UPDATE shop.ticket SET state = '@{[ any_of(qw(RESERVED PAID BLOCKED CANCELED)) ]}', reserved_until = @{[ any_end() ]} @{[ live($c) ]}",
		"UPDATE shop.ticket SET chair_no = @{[ any_chair() ]}, modified_at = '1999-01-01' @{[ live($c) ]}", "UPDATE shop.ticket SET game_no = 15 - game_no WHERE chair_no = $c AND state <> 'CANCELED'",
		'DELETE FROM shop.ticket ' . live($c), "DELETE FROM shop.ticket WHERE chair_no = $c");
}
my @writers = map { { session => shop(), at => 0 } } 1 .. 3;
my ($writes, $failed) = (0, 0);
for my $round (1 .. 5) {
	my $left = 60;
	my $go_on = sub {
		for my $w (@writers) {
			if ($w->{busy}) {
				next if !$w->{session}->ready;
				$w->{busy} = 0;
				if (!eval { $w->{session}->result; 1 }) { @$w{qw(end at)} = ('ROLLBACK', 0); $failed++ }	# a deadlock, a chair that is taken
			}
			next if time < $w->{at};
			my $next = delete $w->{end};
			if ($next) { $w->{open} = 0 }
			elsif ($w->{open} && rand() < 0.4) { @$w{qw(end at)} = (any_of(qw(COMMIT COMMIT COMMIT ROLLBACK)), time + rand any_of(0.01, 0.2, 0.5)); next }
			elsif ($left && $left--) {
				$next = any_of('%s', '%s', 'SAVEPOINT a; %s; RELEASE a', 'SAVEPOINT a; %s; ROLLBACK TO a') =~ s/%s/any_write()/er;
				$next = "BEGIN; $next" if !$w->{open};
				$w->{open} = 1;
				$writes++;
			}
			elsif ($w->{open}) { $w->{end} = 'COMMIT'; next }
			else { next }
			$w->{session}->send($next);
			$w->{busy} = 1;
		}
		return !$left && !any { $_->{busy} || $_->{open} } @writers;
	};
	$s->wait_for($go_on, 30) or die "writers hang\n";
	for my $stand (110, 111) {
		my ($shown, $true) = ('', '');
		my $ok = $s->wait_for(sub {
			my %t = map { @$_ } $admin->query("SELECT chair_no, coalesce((SELECT CASE WHEN state <> 'RESERVED' THEN 'OCCUPIED' WHEN reserved_until <= @{[ seoul('0') ]} THEN 'AVAILABLE' ELSE 'HOLD' END
				FROM shop.ticket t WHERE game_no = 7 AND t.chair_no = c.chair_no AND state <> 'CANCELED'), 'AVAILABLE') FROM shop.chair c WHERE stand_no = $stand");
			($shown, $true) = map { my $h = $_; join ' ', map { "$_=$h->{$_}" } sort keys %$h } $fan{$stand}{seats}, \%t;
			return $shown eq $true;
		}, 1);
		ok($ok, "round $round: the viewer of stand $stand has what the shop has") or is($shown, $true, 'the same');
	}
}
note("$writes writes, $failed transactions failed");
cmp_ok($failed, '<', $writes / 3, 'most of it was done');
$s->expect_counter(late_seats => 0)->expect_counter(reconciles => '>=', 1);
is(join("\n", grep { /(?:WARNING|FATAL|PANIC):/ } split /\n/, $s->log_text('postgresql')), '', "PostgreSQL's log is clean");
$s->done;
