#!/usr/bin/env perl
# install.sql on what is there already: keeps every row, column and trigger of an older application, loses no change while writers write, does
# nothing the second time and locks nobody out; all of it or nothing, as any owner, in any schema, zone and encoding.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy; use Time::HiRes qw(time);

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 1, poll_interval => '100ms', reconcile_interval => '60m', pg => { timezone => 'America/New_York' });
my $stage = $s->{stage};
my (%db, $runs);
sub of { my ($db) = @_; return $db{$db} //= $s->session(dbname => $db) }
sub create { my ($db, $how) = @_; of('postgres')->query("CREATE DATABASE $db @{[ $how // '' ]}"); return }

# A program with a database: begun, ended [exit status, what it said].  Options: user, and libpq's variables.
sub begin {
	my ($db, $tool, $with, %o) = @_;
	my $name = "run" . ++$runs;
	my $c = $s->pg_conninfo(dbname => $db, user => delete $o{user} // 'postgres');
	$stage->spawn($name, [$stage->pg_bin($tool), '-d', $c, @$with], env => \%o);
	return $name;
}
sub ended { my ($name) = @_; my $status = $stage->wait_end($name, 60) // die "$name hangs\n"; delete $stage->{proc}{$name}; return $status >> 8, $s->log_text($name) }
sub file { my ($name) = @_; return [qw(-X -q -v ON_ERROR_STOP=1 -f), "$stage->{src}/sql/$name"] }
sub psql { my ($db, $file, %o) = @_; return ended(begin($db, 'psql', file($file), %o)) }
sub installs {
	my ($says, $db, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $said) = psql($db, 'install.sql', %o);
	is("$status $said", '0 ', "$says: done, silently");
	return;
}
sub dump_of { my ($db, @with) = @_; my ($status, $text) = ended(begin($db, 'pg_dump', \@with)); die $text if $status; return $text =~ s/^\\(?:un)?restrict.*\n//mgr }
sub refused {	# nothing is left behind
	my ($says, $like, $db, $file, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $before = dump_of($db);
	my ($status, $said) = psql($db, $file, %o);
	is($status, 3, "$says: refused");
	like($said, $like, '… in words');
	is(dump_of($db), $before, '… and nothing is left behind');
	return $said;
}

# Another application's tables, as they were before.
my $SITE = <<~'SQL';
	CREATE TABLE matches (id int PRIMARY KEY, name varchar(40) NOT NULL);
	CREATE TABLE areas (id int PRIMARY KEY, name varchar(40) NOT NULL);
	CREATE TABLE sections (id int PRIMARY KEY, area_id int NOT NULL REFERENCES areas, name varchar(40) NOT NULL);
	CREATE TABLE blocks (id int PRIMARY KEY, section_id int NOT NULL REFERENCES sections, name varchar(40) NOT NULL);
	CREATE TABLE seats (id int PRIMARY KEY, block_id int NOT NULL REFERENCES blocks, row_number smallint, seat_number smallint);
	INSERT INTO matches VALUES (1, 'one'); INSERT INTO areas VALUES (1, 'North'); INSERT INTO sections VALUES (1, 1, 'Lower'); INSERT INTO blocks VALUES (11, 1, '11'), (12, 1, '12');
	INSERT INTO seats SELECT i, 11 + i / 200, i / 20, i % 20 FROM generate_series(1, 399) i;
	SQL
my $OLDER = <<~'SQL';
	CREATE TABLE allocations (status varchar(12) NOT NULL, note text DEFAULT 'theirs', seat_id int NOT NULL, hold_expires_at timestamp, match_id int NOT NULL, id serial PRIMARY KEY);
	CREATE TABLE audit (allocation int, what text);
	CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (NEW.id, TG_OP || ' ' || TG_NAME); RETURN NEW; END $$;
	CREATE TRIGGER audit BEFORE INSERT OR UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION audit();
	CREATE TRIGGER zzz_audit AFTER UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION audit();
	CREATE TRIGGER audit_off AFTER UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION audit();
	CREATE TRIGGER audit_replica AFTER UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION audit();
	CREATE TRIGGER audit_always AFTER UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION audit();
	ALTER TABLE allocations DISABLE TRIGGER audit_off; ALTER TABLE allocations ENABLE REPLICA TRIGGER audit_replica; ALTER TABLE allocations ENABLE ALWAYS TRIGGER audit_always;
	INSERT INTO allocations (match_id, seat_id, status, note, hold_expires_at) SELECT 1, i, (ARRAY['AVAILABLE', 'HOLD', 'OCCUPIED'])[1 + i % 3], 'n' || i, CASE i % 3 WHEN 1 THEN '2100-01-01'::timestamp END FROM generate_series(1, 300) i;
	SQL
my $ROLES = q{SELECT count(*) FROM pg_roles WHERE rolname ~ '^seatcast_'};

# Somebody keeps writing to this table: what comes of that is seen at the end.
create('busy');
of('busy')->query($SITE . $OLDER);
my $busy = dump_of('busy');
my $holder = $s->session(dbname => 'busy');
$holder->query("BEGIN; UPDATE allocations SET note = 'x' WHERE id = 1");
my $waits = begin('busy', 'psql', file('install.sql'));

# ---- who ----

sub forget_roles { of($_)->query('DROP OWNED BY seatcast_reader, seatcast_writer') for @_; of('postgres')->query('DROP ROLE seatcast_reader, seatcast_writer'); return }
forget_roles('seatcast');
my @twins = map { "twin$_" } 1 .. 3;		# roles belong to them all
create($_) for @twins;
my @runs = map { begin($_, 'psql', file('install.sql')) } @twins, $twins[0];
is(join('|', map { join ' ', ended($_) } @runs), '0 |0 |0 |0 ', 'in several databases, and twice in one, at the same moment: done, silently');
forget_roles(@twins);
of('postgres')->query('CREATE ROLE plain LOGIN; CREATE ROLE maker LOGIN CREATEROLE');
create('first', 'OWNER maker');
create('second', 'OWNER plain');
refused('an owner who may not create roles, when there are none', qr/ERROR:  seatcast: plain may not create .* seatcast_writer.*\n.*HINT: .*CREATEROLE/, 'second', 'install.sql', user => 'plain');
is(of('second')->value($ROLES), 0, '… no role either');
installs('an owner with CREATEROLE', 'first', user => 'maker');
is(of('first')->value($ROLES), 2, '… the roles are there');
installs('… again', 'first', user => 'maker');
installs('an owner who may not create roles, now that they are there', 'second', user => 'plain');
is($s->session(dbname => $_, user => 'seatcast_writer')->value('SELECT count(*) FROM seatcast.areas()'), 0, "… and they may ask ($_)") for qw(first second);

# ---- an older application's tables ----

sub theirs { my ($db) = @_; return join "\n", map { join ' ', map { $_ // '-' } @$_ } of($db)->query('SELECT status, note, seat_id, hold_expires_at, match_id, id FROM allocations ORDER BY id') }
sub triggers { my ($db) = @_; return join ' ', map { @$_ } of($db)->query("SELECT tgname || '=' || tgenabled::text FROM pg_trigger WHERE tgrelid = 'allocations'::regclass AND tgname ~ 'audit' ORDER BY 1") }
for my $zone (undef, 'Asia/Seoul') {
	my ($db, $name) = $zone ? ('korean', $zone) : ('older', 'UTC');
	create($db);
	of('postgres')->query("ALTER DATABASE $db SET seatcast.time_zone = '$zone'") if $zone;
	of($db)->query($SITE . $OLDER);
	my ($rows, $triggers, $audit) = (theirs($db), triggers($db), of($db)->value('SELECT count(*) FROM audit'));
	installs("older tables, $name", $db, PGTZ => $zone ? 'Europe/Paris' : 'Asia/Seoul');
	is(theirs($db), $rows, '… every row is as it was');
	is(of($db)->value("SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'allocations'::regclass AND attnum > 0"),
		'status note seat_id hold_expires_at match_id id user_id updated_at block_id changed_xid', '… every column, and ours after them');
	is(of($db)->value("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'allocations'::regclass AND attname = 'status'"), 'character varying(12)', '… of its type');
	is(triggers($db), $triggers, '… their triggers as they were');
	is(of($db)->value('SELECT count(*) FROM audit'), $audit, '… and they did not fire');
	is(of($db)->value('SELECT count(*) FROM allocations a JOIN seats s ON s.id = a.seat_id WHERE a.block_id = s.block_id AND changed_xid IS NOT NULL'), 300, '… each row knows its block');
	my $fresh = "abs(extract(epoch FROM clock_timestamp() AT TIME ZONE '$name' - updated_at)) < 60";
	is(of($db)->value("SELECT count(*) FROM allocations WHERE $fresh"), 300, '… and the time, whatever the zone of who installs');
	of($db)->query("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 301, 'HOLD'); UPDATE allocations SET status = 'OCCUPIED' WHERE seat_id = 301");
	is(of($db)->value("SELECT count(*) FROM allocations WHERE seat_id = 301 AND block_id = 12 AND note = 'theirs' AND changed_xid IS NOT NULL AND $fresh"), 1, 'their code goes on as before, and is tracked');
	is(of($db)->value("SELECT string_agg(what, ', ' ORDER BY what) FROM audit WHERE allocation = 301"), 'INSERT audit, UPDATE audit, UPDATE audit_always, UPDATE zzz_audit', '… by their triggers too');
}

# ---- again, while somebody reads, somebody writes and a viewer looks ----

$s->start_seatcast(database => $s->pg_conninfo(dbname => 'older', user => 'seatcast_writer'));
my $fan = $s->client('fan')->watch(1, 12)->expect_event('init')->expect_seat(301 => 'OCCUPIED', 300 => 'AVAILABLE', 298 => 'HOLD', 299 => 'OCCUPIED', 399 => 'AVAILABLE');
of('postgres')->query('CREATE ROLE app LOGIN');
of('older')->query('GRANT SELECT, INSERT, UPDATE ON allocations TO app; GRANT INSERT ON audit TO app; GRANT USAGE ON SEQUENCE allocations_id_seq TO app');
my ($schema, $seen) = (dump_of('older'), scalar $fan->events);
my ($reader, $writer) = map { $s->session(dbname => 'older') } 1, 2;
$reader->query('BEGIN; SELECT count(*) FROM allocations, seats, matches');
$writer->query("BEGIN; UPDATE allocations SET status = 'OCCUPIED' WHERE seat_id = 298; INSERT INTO seats VALUES (1000, 12, 1, 1); INSERT INTO matches VALUES (2, 'two')");
installs('again, while transactions are open that read and write', 'older');
$_->query('ROLLBACK') for $reader, $writer;
is(dump_of('older'), $schema, '… changes nothing');
my $app = $s->session(dbname => 'older', user => 'app');
$app->query("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 302, 'HOLD')");
$fan->expect_seat(302 => 'HOLD', within => 2);
is(scalar($fan->events) - $seen, 1, '… viewers notice nothing, and then what somebody writes who may not read seats');
my $check = qx{'@{[ binary($stage) ]}' --check --database '@{[ $s->pg_conninfo(dbname => 'older', user => 'seatcast_writer') ]}' --max-streams 100 --max-groups 10 2>&1};
is($?, 0, '--check: exit 0') or diag($check);
unlike($check, qr/^(?:error|warning)/m, '… nothing to complain about');
is($s->http(POST => '/api/matches/1/allocation/seats/303/hold', {}, { userId => 7 })->{status}, 200, 'seats can be held');
is($s->http(POST => '/api/matches/1/allocation/seats/302/hold', {}, { userId => 7 })->{status}, 409, '… but not those of others');

# ---- who may do what ----

my @port = qw(areas block_exists block_seats blocks blocks_exist changes match_changes match_snapshot matches sections snapshot stadium);
my %may = (seatcast_reader => [sort @port, 'checkup'], seatcast_writer => [sort @port, qw(checkup confirm confirm_seats hold hold_seats release release_seats trial)], app => []);
for my $role (sort keys %may) {
	my @can = map { $_->[0] } of('older')->query("SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'seatcast'::regnamespace AND has_function_privilege('$role', oid, 'EXECUTE') ORDER BY 1");
	is("@can", "@{$may{$role}}", "$role may execute these and no others");
	is(of('older')->value("SELECT has_schema_privilege('$role', 'seatcast', 'CREATE')"), 'f', '… and create nothing there');
}
is(of('older')->value("SELECT count(*) FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE pronamespace = 'seatcast'::regnamespace AND a.grantee = 0"), 0, 'everybody: none');
like($app->error('SELECT * FROM seatcast.snapshot(1, 11)'), qr/permission denied for schema seatcast/, '… is refused');
for my $role (qw(seatcast_reader seatcast_writer)) {
	my $t = $s->session(dbname => 'older', user => $role);
	cmp_ok($t->value('SELECT count(*) FROM seatcast.snapshot(1, 11)'), '>', 1, "$role reads");
	$t->query('SET default_transaction_read_only = off');
	for my $table (qw(matches areas sections blocks seats allocations)) {
		my @said = map { $t->error($_) } "SELECT * FROM $table", "UPDATE $table SET id = 1", "DELETE FROM $table", "INSERT INTO $table DEFAULT VALUES", "TRUNCATE $table", "SELECT * FROM $table FOR UPDATE";
		is(scalar(grep { /(?:permission denied for table|must be owner of table) $table/ } @said), @said, "… and touches nothing of $table");
	}
	like($t->error("SELECT * FROM seatcast.hold(1, 304, 7, '5m')"), $role =~ /reader/ ? qr/permission denied for function hold/ : qr/^$/, $role =~ /reader/ ? '… nor holds a seat' : '… but holds a seat');
}

# ---- writers keep writing, viewers keep looking, while the columns and the trigger are added ----

$s->stop_seatcast;
create('legacy');
of('legacy')->query($SITE . <<~'SQL');
	CREATE TABLE allocations (id serial PRIMARY KEY, match_id int NOT NULL, block_id int NOT NULL, seat_id int NOT NULL, status text NOT NULL, hold_expires_at timestamp, updated_at timestamp DEFAULT CURRENT_TIMESTAMP, UNIQUE (match_id, seat_id));
	CREATE INDEX ON allocations (updated_at);
	INSERT INTO matches SELECT i, i FROM generate_series(2, 50) i;
	INSERT INTO allocations (match_id, block_id, seat_id, status, updated_at) SELECT m.id, s.block_id, s.id, 'OCCUPIED', '2020-01-01' FROM matches m, seats s WHERE m.id > 1;
	SQL
is(join(' ', psql('legacy', 'changes_updated_at.sql')), '0 ', 'changes_updated_at.sql, without install.sql');
$s->start_seatcast(database => $s->pg_conninfo(dbname => 'legacy', user => 'seatcast_writer'));
my %fan = map { $_ => $s->client("block $_")->watch(1, $_)->expect_event('init') } 11, 12;
sub put { my ($seat, $status) = @_; return "INSERT INTO allocations (match_id, block_id, seat_id, status, updated_at) VALUES (1, 11 + $seat / 200, $seat, '$status', now() AT TIME ZONE 'UTC')
	ON CONFLICT (match_id, seat_id) DO UPDATE SET status = EXCLUDED.status, updated_at = EXCLUDED.updated_at" }
my @writers = map { { t => $s->session(dbname => 'legacy'), n => $_ } } 0 .. 2;
my $open = $s->session(dbname => 'legacy');
my $writes = 0;
sub write_on {		# each to seats of its own, in transactions of several writes
	for my $w (@writers) {
		next if $w->{busy} && !$w->{t}->ready;
		$w->{t}->result if $w->{busy};
		my ($begin, $end) = (!$w->{open}, $w->{open} && rand() < 0.4);
		$w->{t}->send($end ? 'COMMIT' : ($begin ? 'BEGIN; ' : '') . put(1 + $w->{n} + 3 * int rand 130, (qw(AVAILABLE HOLD OCCUPIED))[rand 3]));
		@$w{qw(busy open)} = (1, !$end);
		$writes++;
	}
	return;
}
$s->expect('writers write', sub { write_on(); $writes > 30 }, 10);
$open->query('BEGIN; ' . put(399, 'HOLD'));		# install.sql has to wait for this one, and the others for install.sql: also a poll, whose snapshot is older than the commit
my $run = begin('legacy', 'psql', file('install.sql'));
$s->expect('install.sql waits, and polls do', sub { write_on(); of('legacy')->value("SELECT count(*) FROM pg_stat_activity WHERE datname = 'legacy' AND application_name = 'seatcast' AND wait_event_type = 'Lock'") == 2 }, 10);
$open->query('COMMIT');
$s->expect('install.sql is done', sub { write_on(); $stage->ended($run) }, 20);
is(join(' ', ended($run)), '0 ', '… silently');
my $enough = $writes + 60;
$s->expect('writers write on', sub { write_on(); $writes > $enough }, 10);
for my $w (@writers) { $w->{t}->result; $w->{t}->query('COMMIT') if $w->{open} }
my %true;
$true{$_->[0]}{$_->[1]} = $_->[2] for of('legacy')->query("SELECT s.block_id, s.id, coalesce(a.status, 'AVAILABLE') FROM seats s LEFT JOIN allocations a ON a.seat_id = s.id AND a.match_id = 1");
$fan{$_}->expect_same_seats($true{$_}, within => 2) for 11, 12;
is(of('legacy')->value('SELECT count(*) FROM allocations a JOIN seats s ON s.id = a.seat_id WHERE changed_xid IS NULL OR a.block_id IS DISTINCT FROM s.block_id'), 0, 'no row is untracked');
is(join(' ', map { $_->{type} } grep { $_->{type} !~ /update|beat/ } map { $_->events } values %fan), 'init init', 'viewers noticed nothing else');
$s->expect_counter(late_seats => 0)->expect_counter(reconciles => 2);
is($s->stop_seatcast, 0, 'seatcast ends as it should');

# ---- another schema ----

create('other');
of('other')->query('CREATE SCHEMA box');
installs('into another schema', 'other', PGOPTIONS => '-c search_path=box');
is(of('other')->value(q{SELECT string_agg(DISTINCT relnamespace::regnamespace::text, ' ') FROM pg_class WHERE relname IN ('matches', 'seats', 'allocations')}), 'box', '… all tables are there');
refused('again, with a search_path that does not find them', qr/this session's search_path \("\$user", public\) has no table allocations\n.*HINT:.*PGOPTIONS='-c search_path=\.\.\.'.*The functions read box\.allocations\./, 'other', 'install.sql');
my $other = dump_of('other');
installs('… with it', 'other', PGOPTIONS => '-c search_path=box');
is(dump_of('other'), $other, '… changes nothing');

# ---- encodings ----

sub seats { my ($db) = @_; return of($db)->value('SELECT count(*) FROM seats') }
for my $e (['EUC_KR', 'EUC_KR'], ['SQL_ASCII', 'UTF8'], ['LATIN1', 'UTF8']) {
	my ($encoding, $client) = @$e;
	my $db = lc $encoding;
	create($db, "ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	installs("in $encoding", $db, PGCLIENTENCODING => $client);
	if ($encoding eq 'LATIN1') {
		refused('demo.sql where there is no Korean', qr/ERROR:  character with byte sequence .* has no equivalent in encoding "LATIN1"/, $db, 'demo.sql');
		next;
	}
	is(join(' ', psql($db, 'demo.sql', PGCLIENTENCODING => $client)), '0 ', "… and demo.sql, of a client in $client");
	is(seats($db), 40000, '… all seats');
	$s->start_seatcast(database => $s->pg_conninfo(dbname => $db, user => 'seatcast_reader'));
	like($s->http(GET => '/api/site/areas')->{body}, qr/"name":"1루 내야석 \(First base infield\)"/, '… whose names come in UTF-8');
	is($s->stop_seatcast, 0, '… exits 0');
}

# ---- what it cannot use ----

create('wrong');
of('wrong')->query($SITE . $OLDER . 'ALTER TABLE allocations ALTER seat_id TYPE text');
refused('a column of the wrong type', qr/ERROR:  seatcast: columns of allocations .* seat_id text \(wanted: bigint/, 'wrong', 'install.sql');
of('wrong')->query('ALTER TABLE allocations DROP seat_id CASCADE');
refused('a column that is missing', qr/ERROR:  seatcast: tables of this database lack columns: allocations\.seat_id/, 'wrong', 'install.sql');

my ($status, $said) = ended($waits);
is($status, 3, 'a table that stays locked: given up');
like($said, qr/ERROR:  seatcast: allocations stayed locked by another transaction for 10s\n.*HINT:  Nothing was changed/, '… in words');
$holder->query('ROLLBACK');
is(dump_of('busy'), $busy, '… and nothing is left behind');
installs('… it can be run again', 'busy');
$s->done;
