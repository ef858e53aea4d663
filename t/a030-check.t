#!/usr/bin/env perl
# seatcast --check: connects as configured, says what is wrong and how to mend it, exits 0 or 1, shows no password and always ends.
# Each finding is provoked; where it names a command, that very command mends it.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use IO::Socket::INET; use IO::Socket::UNIX; use Time::HiRes qw(time);

# No autovacuum: it would mend missing statistics in the middle of a test.
my $s = Scenario->new(seats => 4, lighttpd => 0, start => 0, pg => { autovacuum => 'off' });
my $binary = $ENV{SEATCAST} // ($ENV{top_builddir} // "$FindBin::Bin/../build") . '/src/seatcast';
my @few = ('--max-streams', '100', '--max-groups', '10');	# fits everywhere
my $said = '';		# all that was ever said

# A check under way; ended() is [exit status, output].
sub begin {
	my (%o) = @_;
	local $ENV{SEATCAST_DATABASE} = $o{database} // $s->pg_conninfo(user => $o{user} // 'seatcast_writer');
	open my $out, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', @{$o{wrap} // []}, $binary, '--check', @{$o{options} // \@few} or die "$binary: $!";
	return $out;
}
sub ended { my ($out) = @_; my $text = join '', readline $out; close $out; $said .= $text; return [$? >> 8, $text] }
sub check { return @{ended(begin(@_))} }

# The command that a finding ends with.
my $verb = qr/ALTER|ANALYZE|CREATE|DROP|GRANT|REINDEX|REVOKE|SELECT|UPDATE/;
sub command { my ($line) = @_; return $line =~ m{(?:run|-f) (sql/\S+\.sql)$} ? $1 : ($line =~ /(?:: |or )((?:$verb) .+|ROLLBACK PREPARED .+)$/)[0] }
sub run { my ($command) = @_; return $command =~ m{^sql/(.+)} ? $s->sql_file($1) : $s->sql($command) }

# Provoke a finding, see it, mend it by its own command (or by "mend", where it has none), see that it is gone; "undo" is for
# what the test itself needs.  Options: break, mend, undo: SQL, or a file of it; those of begin().
sub finding {
	my ($says, $severity, $like, %o) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	run($_) for @{$o{break} // []};
	my ($status, $text) = check(%o);
	my ($line) = grep { /^$severity: .*$like/ } split /\n/, $text;
	ok($line, $says) or diag $text;
	is($status, $severity eq 'error' ? 1 : 0, "… exit $status") or diag $text;
	if ($line && !$o{mend} && $o{break}) {
		my $command = command($line);
		ok($command, '… names a command') or diag $line;
		eval { run($command); 1 } or fail("… which works: $@") if $command;
	}
	run($_) for @{$o{mend} // []};
	if ($o{break}) {
		($status, $text) = check(%o);
		is(join("\n", grep { /$like/ } split /\n/, $text), '', '… and is mended by it');
	}
	run($_) for @{$o{undo} // []};
	return $line;
}
# What the checks call is the server's own and nobody else's: where that is to say something else, it is put in its place.
my $superuser = 'SET allow_system_table_mods = on';
my @honest;
sub fake {
	my ($function, $returns, $language, $body) = @_;
	@honest = ("$superuser; DROP FUNCTION pg_catalog.$function", "$superuser; ALTER FUNCTION pg_catalog.true_$function RENAME TO " . $function =~ s/\(.*//r);
	return ("$superuser; ALTER FUNCTION pg_catalog.$function RENAME TO true_" . $function =~ s/\(.*//r, "$superuser; CREATE FUNCTION pg_catalog.$function RETURNS $returns STABLE LANGUAGE $language AS \$\$ $body \$\$");
}

my ($status, $text) = check();
is($status, 0, 'a fresh installation: exit 0') or diag $text;
unlike($text, qr/^(?:error|warning|tables|pooler)/m, '… and nothing to complain about');
like($text, qr/^database: \S+ at .* as seatcast_writer/m, '… it says where it is');
like($text, qr/^allocation: whoever may POST to it may name any user: .*--user-param/m, '… and whom it believes');
like((check(options => ['--user-param', 'REMOTE_USER']))[1], qr/^allocation: the user is who REMOTE_USER names$/m, '… who is logged in, with --user-param');

# The server, the connection
finding('no database', 'error', qr/database: /, user => 'nobody');
my @lie = fake('current_setting(text)', 'text', 'sql', q{SELECT CASE $1 WHEN 'server_version_num' THEN '120022' ELSE pg_catalog.true_current_setting($1) END});
finding('a server that is too old', 'error', qr/PostgreSQL \S+ .*is too old/, mend => [@honest], break => [@lie]);
@lie = fake('pg_is_in_recovery()', 'bool', 'sql', 'SELECT true');
finding('a standby', 'warning', qr/the database is a standby/, mend => [@honest], break => [@lie]);
for my $minutes (1, -1) {
	@lie = fake('clock_timestamp()', 'timestamptz', 'sql', "SELECT pg_catalog.true_clock_timestamp() + interval '$minutes min'");
	finding("a clock that is $minutes minute off", 'warning', qr/the clocks .* differ by @{[ 60 * $minutes ]} s/, mend => [@honest], break => [@lie]);
}
finding('too few connections for the role', 'warning', qr/this role may have 5 connections, .* may need 18/, break => ['ALTER ROLE seatcast_writer CONNECTION LIMIT 5'],
	undo => ['ALTER ROLE seatcast_writer CONNECTION LIMIT -1']);
finding('no time zone', 'error', qr/seatcast\.time_zone is 'Asia\/Soul'/, break => ["ALTER DATABASE seatcast SET seatcast.time_zone = 'Asia/Soul'"],
	undo => ['ALTER DATABASE seatcast RESET seatcast.time_zone']);
for my $zone ('KST', '+09', '+09:00', '<+09>-9', 'asia/seoul', 'EST5EDT') {
	$s->sql("SELECT now() AT TIME ZONE '$zone'");
	$s->sql("ALTER DATABASE seatcast SET seatcast.time_zone = '$zone'");
	unlike((check())[1], qr/time_zone/, "… $zone is one");
}
$s->sql('ALTER DATABASE seatcast RESET seatcast.time_zone');

finding('a time zone that got lost', 'error', qr/times without zone were those of Asia\/Seoul/,
	break => ["ALTER DATABASE seatcast SET seatcast.time_zone = 'Asia/Seoul'", 'sql/install.sql', 'ALTER DATABASE seatcast RESET seatcast.time_zone'],
	undo => ['ALTER DATABASE seatcast RESET seatcast.time_zone', 'sql/install.sql']);
finding('a table that cannot be written', 'error', qr/seatcast cannot hold a seat that has no row yet: .*no_holds/,
	break => ["ALTER TABLE allocations ADD CONSTRAINT no_holds CHECK (status <> 'HOLD')"], mend => ['ALTER TABLE allocations DROP CONSTRAINT no_holds']);

# Transactions that do not end
$s->sql($_) for "ALTER ROLE seatcast_writer SET seatcast.long_transaction = '0'";
for my $kind (['one that writes', q{BEGIN; INSERT INTO matches VALUES (9, 'x')}, qr/polls answer with more rows/], ['one that reads', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1', qr/vacuum/]) {
	my $t = $s->session;
	$t->query($kind->[1]);
	my ($pid) = $t->query('SELECT pg_backend_pid()');
	finding("an old transaction, $kind->[0]", 'warning', qr/a transaction of postgres is open since .* $kind->[2].*\b$pid->[0]\b/, break => []);
	$t->kill;
}
$s->sql('ALTER ROLE seatcast_writer RESET seatcast.long_transaction');
my $t = $s->session;
$t->query(q{BEGIN; INSERT INTO matches VALUES (9, 'x')});
unlike((check())[1], qr/a transaction of/, 'a young transaction is nothing to speak of');
$t->query("PREPARE TRANSACTION 'it''s old'");
unlike((check())[1], qr/a transaction/, '… nor is a young prepared one');
@lie = fake('now()', 'timestamptz', 'sql', "SELECT pg_catalog.true_now() + interval '6 min'");
finding('an old prepared transaction', 'warning', qr/a transaction is prepared since/, undo => [@honest], break => [@lie]);

# Functions and roles
for my $f ('changes(bigint,bigint,text)', 'block_seats(bigint)', 'confirm(bigint,bigint,bigint[])') {
	my ($name) = $f =~ /(\w+)/;
	finding("a missing function, $name", 'error', qr/these functions of the port are missing: seatcast\.\Q$f\E/, break => ["ALTER FUNCTION seatcast.$name RENAME TO lost"], undo => ['DROP FUNCTION seatcast.lost']);
}
finding('a VOLATILE port function', 'error', qr/seatcast\.changes\S+ is VOLATILE/, break => ['ALTER FUNCTION seatcast.changes VOLATILE']);
finding('a missing role', 'warning', qr/the roles seatcast_reader and seatcast_writer are not both there/, break => ['ALTER ROLE seatcast_reader RENAME TO somebody'],
	undo => ['DROP OWNED BY somebody', 'DROP ROLE somebody']);

# Privileges, too narrow
my $both = 'FROM seatcast_reader, seatcast_writer';
finding('a closed schema', 'error', qr/seatcast_writer may not use the schema/, break => ["REVOKE USAGE ON SCHEMA seatcast $both"]);
ok($said !~ /could not be run/, '… and nothing is asked that cannot be known then');
finding('one stream function revoked', 'error', qr/seatcast_writer may not execute seatcast\.changes\S+, so that no stream works/, break => ["REVOKE EXECUTE ON FUNCTION seatcast.changes $both"]);
finding('one list function revoked', 'warning', qr/seatcast_writer may not execute seatcast\.block_seats\S+, so that the site cannot be listed/,
	break => ["REVOKE EXECUTE ON FUNCTION seatcast.block_seats $both"]);
finding('release alone revoked', 'error', qr/seatcast_writer may not execute seatcast\.release\(bigint,bigint,bigint\), so that seats cannot be sold/,
	break => ["REVOKE EXECUTE ON FUNCTION seatcast.release $both"]);
finding('a reader cannot allocate', 'warning', qr/seatcast_reader may not allocate seats/, user => 'seatcast_reader');
finding('a writer that only reads', 'warning', qr/transactions of seatcast_writer are read-only/, break => ['ALTER ROLE seatcast_writer SET default_transaction_read_only = on'],
	undo => ['ALTER ROLE seatcast_writer RESET default_transaction_read_only']);
$s->sql('CREATE ROLE app LOGIN');
finding('another role', 'error', qr/app may not use the schema seatcast/, user => 'app', break => ['ALTER ROLE app SET jit = off']);
$s->sql('REVOKE seatcast_reader FROM app');
finding('another role in an open schema', 'error', qr/app may not execute .*changes.*: GRANT seatcast_reader TO app/, user => 'app', break => ['GRANT USAGE ON SCHEMA seatcast TO app'],
	undo => ['REVOKE USAGE ON SCHEMA seatcast FROM app', 'REVOKE seatcast_reader FROM app']);

# Privileges, too wide
finding('a superuser', 'warning', qr/postgres is a superuser/, user => 'postgres');
finding('functions for everybody', 'warning', qr/everybody may execute seatcast\.hold/, break => ['GRANT EXECUTE ON FUNCTION seatcast.hold TO PUBLIC']);
finding('a reader that may sell', 'warning', qr/seatcast_reader may execute seatcast\.hold\S+, which is for seatcast_writer/, break => ['GRANT EXECUTE ON FUNCTION seatcast.hold TO seatcast_reader']);
finding('the tables for a role', 'warning', qr/seatcast_writer may read or write allocations without/, break => ['GRANT UPDATE ON allocations TO seatcast_writer']);
finding('the tables for everybody', 'warning', qr/everybody may read or write seats without/, break => ['GRANT SELECT ON seats TO PUBLIC']);
finding('the tables by another role', 'warning', qr/seatcast_writer is a member of app, which may read or write tables/,
	break => ['GRANT INSERT ON allocations TO app', 'GRANT app TO seatcast_writer'], undo => ['REVOKE ALL ON allocations FROM app']);
finding('a table of the role', 'warning', qr/seatcast_writer owns matches/, break => ['ALTER TABLE matches OWNER TO seatcast_writer']);
finding('the tables cannot be looked at', 'tables', qr/not looked at/, break => ["REVOKE EXECUTE ON FUNCTION seatcast.checkup $both"], mend => ['GRANT EXECUTE ON FUNCTION seatcast.checkup TO seatcast_reader, seatcast_writer']);

# A trigger of the site's looks into the site's schema when seatcast writes
finding('a trigger that came later', 'warning', qr/the trigger theirs of allocations was not there when seatcast was installed/,
	break => ['CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$', 'CREATE TRIGGER theirs BEFORE UPDATE ON allocations FOR EACH ROW EXECUTE FUNCTION theirs()']);
finding('a schema in which others may create', 'warning', qr/everybody may create objects in the schema public, where triggers of allocations look for things with the rights of postgres/,
	break => ['GRANT CREATE ON SCHEMA public TO PUBLIC'], undo => ['DROP TRIGGER theirs ON allocations', 'DROP FUNCTION theirs', 'sql/install.sql']);

# Trigger and rows
my $trigger = qr/the trigger that tracks changes of allocations is missing, not ENABLE ALWAYS, or not for every INSERT and UPDATE/;
finding('a disabled trigger', 'error', $trigger, break => ['ALTER TABLE allocations DISABLE TRIGGER zz_seatcast_track']);
finding('a trigger for INSERT alone', 'error', $trigger, break => ['DROP TRIGGER zz_seatcast_track ON allocations',
	'CREATE TRIGGER zz_seatcast_track BEFORE INSERT ON allocations FOR EACH ROW EXECUTE FUNCTION seatcast.track()', 'ALTER TABLE allocations ENABLE ALWAYS TRIGGER zz_seatcast_track']);
finding('a column with another name', 'error', qr/allocations has no column changed_xid, which it had when seatcast was installed/,
	break => ['ALTER TABLE allocations RENAME changed_xid TO cx'], mend => ['ALTER TABLE allocations RENAME cx TO changed_xid']);
finding('a trigger that is not ALWAYS', 'error', $trigger, break => ['ALTER TABLE allocations ENABLE TRIGGER zz_seatcast_track']);
finding('no trigger', 'error', $trigger, break => ['DROP TRIGGER zz_seatcast_track ON allocations']);
$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 101, 'HOLD')");
finding('changed_xid of another cluster', 'warning', qr/1 rows of allocations carry changed_xid of another cluster/,
	break => ['ALTER TABLE allocations DISABLE TRIGGER zz_seatcast_track', "UPDATE allocations SET changed_xid = '99999999999'", 'ALTER TABLE allocations ENABLE ALWAYS TRIGGER zz_seatcast_track']);

# Indexes.  Those on these columns, whatever their names.
sub drop { my ($table, $columns) = @_; return map { /CONSTRAINT/ ? $_ : "DROP INDEX $_" } map { $_->[0] }
	$s->sql("SELECT coalesce('ALTER TABLE $table DROP CONSTRAINT ' || c.conname || ' CASCADE', i.indexrelid::regclass::text) FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid
		AND c.conrelid = i.indrelid WHERE i.indrelid = '$table'::regclass AND pg_get_indexdef(i.indexrelid) ~ '\\($columns'") }
my %index = (allocations => ['match_id, block_id, changed_xid', 'match_id, changed_xid'], seats => ['id', 'block_id']);
for my $table (sort keys %index) {
	finding("no index on $table ($_)", 'warning', qr/no index on $table \($_\)/, break => [drop($table, $_)]) for @{$index{$table}};
}
finding('no unique index', 'error', qr/no unique index on allocations \(match_id, seat_id\)/, break => [drop('allocations', 'match_id, seat_id')]);
# Duplicates are for people to remove; then install.sql does the rest.
$s->sql($_) for drop('allocations', 'match_id, seat_id'), "INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 101, 'OCCUPIED')";
my $line = finding('seats with two rows', 'error', qr/1 seats have more than one row in allocations/);
my ($find) = $line =~ /\((SELECT .*1)\)/;
is(join(' ', map { @$_ } $s->sql($find)), '1 101 2', '… the query it names finds them');
$s->sql("DELETE FROM allocations WHERE status = 'HOLD'");
run(command($line));
unlike((check())[1], qr/^error/m, '… and when one is left, the file mends the rest');
finding('a hold() that refuses', 'error', qr/seatcast\.hold refuses all/,
	break => [drop('allocations', 'match_id, seat_id'), "INSERT INTO allocations (match_id, seat_id) VALUES (1, 101)", 'sql/install.sql',
		"DELETE FROM allocations WHERE status = 'AVAILABLE'", 'DROP INDEX allocations_match_seat_not_unique', 'CREATE UNIQUE INDEX ON allocations (match_id, seat_id)']);
$s->sql("INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 102, 'HOLD'), (1, 103, 'HOLD')");
eval { $s->sql('CREATE UNIQUE INDEX CONCURRENTLY broken ON allocations (match_id)') };
finding('an index that has failed', 'warning', qr/the index broken is invalid/, break => ['DELETE FROM allocations WHERE seat_id <> 102']);
$s->sql($_) for 'DROP INDEX broken', "INSERT INTO allocations (match_id, seat_id, status) VALUES (1, 103, 'HOLD')";
eval { $s->sql('CREATE UNIQUE INDEX CONCURRENTLY broken_ccnew ON allocations (match_id)') };
finding('… in a REINDEX', 'warning', qr/the index broken_ccnew is invalid, .*DROP/, break => ['SELECT 1']);

# Plans: 20,000 seats in 20 blocks, all of them allocated
$s->sql(<<~SQL);
	INSERT INTO blocks (id, section_id, name) SELECT n, 1, n FROM generate_series(201, 220) n;
	INSERT INTO seats (id, block_id, row_number, seat_number) SELECT 2000 * b + i, b, 1, i FROM generate_series(201, 220) b, generate_series(0, 999) i;
	INSERT INTO allocations (match_id, seat_id, status) SELECT 1, id, 'OCCUPIED' FROM seats WHERE block_id > 200;
	SQL
finding("no statistics on $_", 'warning', qr/$_ has about \d+ rows and no statistics/, break => ['SELECT 1']) for qw(allocations seats);
($status, $text) = check();
unlike($text, qr/^(error|warning)/m, 'large tables: nothing to complain about');
# Neither small tables nor old statistics make a poll read a table from end to end; only want of an index can.
$s->sql($_) for 'CREATE TABLE home AS SELECT id, block_id FROM seats', 'UPDATE seats SET block_id = 201', 'ANALYZE seats', 'UPDATE seats SET block_id = home.block_id FROM home WHERE home.id = seats.id';
unlike((check())[1], qr/reads all of/, 'old statistics: plans as before');
finding('changes() without an index', 'error', qr/no unique index/, mend => ['sql/install.sql'],
	break => [drop('allocations', 'match_id, block_id, changed_xid'), drop('allocations', 'match_id, changed_xid'), drop('allocations', 'match_id, seat_id')]);
like($said, qr/^warning: seatcast\.changes\(\S+ reads all of allocations \(about 200\d\d rows\)/m, '… it says what that costs');
finding('a function that has no plan', 'warning', qr/the plan of seatcast\.changes\S+ cannot be looked at/, mend => ['sql/changes_exact.sql'],
	break => [q{CREATE OR REPLACE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text) RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
		LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$ SELECT 1; SELECT * FROM seatcast.snapshot($1, $2) /* changed_xid */ $$}]);

# The other way to find changes: by updated_at
$s->sql_file('changes_updated_at.sql');
($status, $text) = check();
is("$status $text" =~ /^(?:1|error|warning)/m ? $text : '', '', 'by updated_at: nothing to complain about');
$s->sql('DROP TRIGGER zz_seatcast_track ON allocations');
unlike((check())[1], qr/^(?:error|warning)/m, '… nor without the trigger');
finding('by updated_at: no index', 'warning', qr/no index on allocations \(updated_at\)/, break => [drop('allocations', 'updated_at')]);
finding('by updated_at: a hold() that refuses', 'error', qr/seatcast\.hold refuses all.*updated_at/,
	break => [drop('allocations', 'match_id, seat_id'), 'sql/changes_updated_at.sql', 'CREATE UNIQUE INDEX ON allocations (match_id, seat_id)']);
$s->sql_file('install.sql');

# This machine
finding('too few descriptors', 'warning', qr/a process may open 120 files here, too few for --max-streams 100: .*ulimit -Hn 164$/, wrap => ['sh', '-c', 'ulimit -n 120; exec "$@"', 'sh']);
unlike((check(wrap => ['sh', '-c', 'ulimit -n 164; exec "$@"', 'sh']))[1], qr/may open/, '… which is enough');
SKIP: {
	my @alone = ('unshare', '-n', 'sh', '-c');		# somaxconn is that of a network namespace
	my $set = 'echo 128 > /proc/sys/net/core/somaxconn &&';
	skip 'needs root', 4 if $> != 0 || system(@alone, "$set :") != 0;
	my $found = finding('a short queue', 'warning', qr/net\.core\.somaxconn is 128/, wrap => [@alone, qq($set exec "\$@"), 'sh']);
	my ($sysctl) = $found =~ /(sysctl -w \S+)$/;
	ok($sysctl, '… names a command');
	unlike((check(wrap => [@alone, qq($set PATH=\$PATH:/sbin:/usr/sbin $sysctl && exec "\$@"), 'sh']))[1], qr/somaxconn is/, '… which mends it');
}
finding('a TCP socket', 'warning', qr/--listen 127\.0\.0\.1:9000 is TCP/, options => [@few, '--listen', '127.0.0.1:9000']);
my $socket = $s->dir . '/fcgi.sock';
finding('a socket for everybody', 'warning', qr/--listen-mode lets every user/, options => [@few, '--listen', $socket, '--listen-mode', '0666']);
my @listen = (options => [@few, '--listen', $socket]);
my ($me, $group) = (scalar getpwuid($>), scalar getgrgid((split ' ', $))[0]));
like((check(@listen))[1], qr/^socket: \Q$socket\E is to come, mode 0660, owner $me, group $group$/m, 'a socket that is to come: who will be let in');
SKIP: {
	skip 'only root makes a socket for root alone', 2 if $> != 0;
	finding('a socket for root alone', 'warning', qr/nobody but root may connect to \Q$socket\E/, @listen);
}
my $server = IO::Socket::UNIX->new(Local => $socket, Listen => 1) or die "socket: $!";
chmod 0640, $socket;
like((check(@listen))[1], qr/^socket: \Q$socket\E, mode 0640, owner $me, group $group$/m, 'one that is there: who is let in');
chmod 0700, $s->dir;
like((check(@listen))[1], qr/^socket: its directory lets through owner $me only$/m, '… and its directory, if it is closed');
chmod 0755, $s->dir;
unlike((check(@listen))[1], qr/directory/, '… or not');
close $server;
unlink $socket;
open my $file, '>', $socket or die;
close $file;
my $way = finding('a file in its place', 'error', qr/is in the way of the FastCGI socket/, @listen);
my ($rm) = $way =~ /: (rm '.*')$/;
system $rm;
is((check(@listen))[0], 0, '… which its command removes');

# No password, wherever one may be
for my $secret ('host=/nowhere dbname=x user=x password=geheim', 'host=/nowhere password=ge heim', "host=/nowhere password='geheim", 'password=geheim host', 'postgresql://x:geheim@127.0.0.1:1/x',
	'postgresql://x:ge@heim@127.0.0.1:1/x', 'postgresql://x:ge/heim@127.0.0.1:1/x', 'postgresql://x:geheim@[127.0.0.1:1/x', 'postgresql://x:geheim@127.0.0.1:port/x', 'geheim') {
	($status, $text) = check(database => $secret);
	cmp_ok($status, '>', 0, "exit $status: " . $text =~ s/\n.*//sr);
	like($text, qr/\w/, '… in words');
	unlike($text, qr/ge.?heim|\bheim|\bge\b/, '… and no password in it');
}
like($said, qr/--database: nothing that libpq can read/, 'what cannot be read is not shown');

# It ends, whatever the database does.  All at once: these are the tests that take their time.
my $deaf = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5) or die "listen: $!";
$s->sql($_) for fake('pg_is_in_recovery()', 'bool', 'plpgsql', q{BEGIN IF current_user ~ '^seatcast_' THEN PERFORM pg_sleep(600); END IF; RETURN false; END}),
	'ALTER ROLE seatcast_reader SET statement_timeout = 0', 'ALTER ROLE seatcast_writer SET statement_timeout = 0';
my $began = time;
my %under_way = (deaf => begin(database => 'host=127.0.0.1 port=' . $deaf->sockport . ' dbname=x user=x'), slow => begin(), frozen => begin(user => 'seatcast_reader'));
my $pid;
$s->wait_for(sub { ($pid) = map { $_->[0] } $s->sql("SELECT pid FROM pg_stat_activity WHERE usename = 'seatcast_reader' AND query ~ 'pg_is_in_recovery' AND wait_event = 'PgSleep'") }) or die "not there\n";
kill 'STOP', $pid;
my %wants = (deaf => [1, qr/^error: database: .*timeout expired/m], slow => [0, qr/^warning: a check could not be run: canceling statement due to statement timeout/m],
	frozen => [1, qr/^error: the database has stopped answering/m]);
for my $which (qw(deaf slow frozen)) {
	($status, $text) = @{ended($under_way{$which})};
	my $took = time - $began;
	like($text, $wants{$which}[1], "a database that is $which: it says so");
	is($status, $wants{$which}[0], "… exit $status");
	cmp_ok($took, '<', 20 + 10 * ($ENV{SEATCAST_PATIENCE} // 1), sprintf '… within %.0f s', $took);
}
kill 'CONT', $pid;
$s->sql($_) for @honest, map { "ALTER ROLE seatcast_$_ SET statement_timeout = '4s'" } qw(reader writer);

# What needs another start of the server, or other tables
my @many = (options => ['--max-streams', '100', '--max-groups', '300']);
my $few = finding('too few connections', 'warning', qr/max_connections leaves 197 connections, .* may need 308/, @many);
my ($connections) = command($few) =~ /^ALTER SYSTEM SET max_connections = (\d+)$/;
$s->pg_stop;
$s->pg_start(max_connections => $connections);
unlike((check(@many))[1], qr/max_connections/, "… and $connections are enough");
finding('no table', 'error', qr/these tables are gone: seats/, break => ['ALTER TABLE seats RENAME TO away'], undo => ['DROP TABLE seats', 'ALTER TABLE away RENAME TO seats']);
($status, $text) = check();
is($text =~ /^(error|warning)/m ? $text : '', '', 'all is mended');

# Nothing is found that was not provoked above: of each finding in the source the longest piece of its text.
my @pieces;
my $c = Stage::slurp("$s->{stage}{src}/src/checkup.c");
my $string = qr/"(?:[^"\\]|\\.)*"/;
my ($table) = $c =~ /findings\[\] = \{\n(.*?)^\};/ms;
for my $row (split /^\t\{ (?=")/m, $table =~ s/'{3}/'/gr) {
	my ($sql) = $row =~ /^"\w+", (.*)/s or next;
	push @pieces, [join('', map { substr $_, 1, -1 } $sql =~ /$string/g) =~ /'((?:[^']|'')*)'/g];
}
push @pieces, [split /%(?:[-.0-9l]*[a-zA-Z]|%)|\\n|\\"/, join '', map { substr $_, 1, -1 } $1 =~ /$string/g] while $c =~ /\bsay\("\w+", ((?:\s*$string)+)/g;
my $sql = Stage::slurp("$s->{stage}{src}/sql/checkup.sql");
push @pieces, [split /%[sILn]|''/, substr $1 =~ s/'\s*\n\s*'//gr, 1, -1] while $sql =~ /'(?:error|warning)', format\(('(?:[^']|''|'\s*\n\s*')*')/g;
@pieces = map { my @p = sort { length $b <=> length $a } @$_; $p[0] } @pieces;
my $marked = () = "$c$sql" =~ /\{ "(?:error|warning)"|\bsay\("(?:error|warning)", |'(?:error|warning)', /g;
is(scalar(@pieces), $marked, scalar(@pieces) . ' findings in the source');
my $elsewhere = qr/the owner of the functions: ALTER ROLE|are not UTF-8, in a database/;		# d190: they want another owner, another encoding
is(join("\n", grep { length && !/$elsewhere/ && index($said, $_) < 0 } @pieces), '', 'each has been provoked');
$s->done;
