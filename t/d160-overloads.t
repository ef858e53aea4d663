#!/usr/bin/env perl
# Whoever may create functions and operators in the schema of the tables (everybody, in `public` of PostgreSQL 13 and 14) gets nothing by it: of each
# function that ours call by its bare name, and of each operator that fits more types than it names, there is one here that fits better and is not called.
# Neither by buyers nor by pollers, nor by --check, nor by who installs again.
# SPDX-License-Identifier: ISC
use strict; use warnings; use FindBin; use lib "$FindBin::Bin/lib"; use Scenario; use Deploy;

my $s = Scenario->new(start => 0, lighttpd => 0, seats => 20);
my $db = $s->session;
$db->query('GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE ROLE evil LOGIN; SET client_min_messages = warning');
my $evil = $s->session(user => 'evil');
$evil->query('SET search_path = pg_catalog; SET client_min_messages = warning');
$evil->query(q{CREATE FUNCTION public.caught() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$});

# Names that stand before a parenthesis in the bodies, without a schema.  Of those that are functions with arguments of several types ("any", VARIADIC, polymorphic), and
# of all others too, since what is exact here may be a cast there: an overload for each choice of these types.
my %name;
for ($db->query("SELECT prosrc FROM pg_proc WHERE pronamespace = 'seatcast'::regnamespace")) {
	my $body = $_->[0] =~ s/--[^\n]*//gr =~ s/'(?:[^']|'')*'//gr;
	$name{$1} = 1 while $body =~ /(?<![\w.])([a-z_][a-z0-9_]*)\s*\(/g;
}
my $names = join ',', sort keys %name;
my @types = qw(bigint integer text xid8 regclass timestamptz interval jsonb bigint[] text[] xid8[] timestamptz[] smallint[] regclass[] oid);
my $planted = 0;
sub plant { my ($what, $sql) = @_; $planted++ if $evil->error($sql) eq ''; return }
for ($db->query("SELECT DISTINCT p.proname, p.pronargs, p.prokind FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND p.pronargs BETWEEN 1 AND 3
	AND p.proname = ANY ('{$names}') AND EXISTS (SELECT FROM unnest(p.proargtypes) t WHERE t::regtype::text ~ '^any|\"any\"')")) {
	my ($function, $n) = @$_;
	for my $type (@types) {
		plant($function, "CREATE FUNCTION public.$function(" . join(', ', ($type) x $n) . ") RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM public.caught(); END'");
	}
}
for my $f ('unnest(bigint[], timestamptz[])', 'unnest(bigint[], bigint[], text[])', 'unnest(xid8[], xid8[])', 'format(text, bigint, bigint)', 'format(text, regclass)', 'format(text, text, text)', 'format(text, regclass, text)',
	'array_position(bigint[], bigint)', 'array_to_string(text[], text)', 'hashtextextended(text, integer)', 'concat_ws(text, text, text)', 'concat(text, text, text, json)', 'current_schema()', 'to_regclass(unknown)', 'to_json(text)',
	'array_agg(bigint)', 'array_agg(text)', 'array_agg(timestamptz)', 'max(text)', 'max(timestamptz)') {
	plant($f, "CREATE FUNCTION public.$f RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM public.caught(); END'");
}
cmp_ok($planted, '>', 150, "$planted functions planted");
my $operators = 0;
for my $o (['||', 'xid8', 'xid8[]'], ['||', 'bigint[]', 'bigint[]'], ['||', 'timestamptz[]', 'timestamptz[]'], ['||', 'text', 'bigint'], ['=', 'oid', 'regclass'], ['=', 'regclass', 'regclass'], ['=', 'name', 'unknown'], ['=', 'varchar', 'varchar'],
	['*', 'numeric', 'integer'], ['||', 'name', 'unknown'], ['||', 'regprocedure', 'text'], ['||', 'name', 'text'],
	['<>', 'regclass', 'regclass'], ['=', 'oid', 'regproc'], ['~', 'name', 'unknown'], ['~', 'varchar', 'text'], ['=', 'regnamespace', 'oid'], ['=', 'oid', 'regnamespace'], ['@>', 'text[]', 'text[]'], ['=', 'bigint[]', 'bigint[]']) {
	my ($op, $left, $right) = @$o;
	(my $f = "op_${operators}") =~ s/\W//g;
	next if $evil->error("CREATE FUNCTION public.$f($left, $right) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM public.caught(); END'") ne '';
	$operators++ if $evil->error("CREATE OPERATOR public.$op (FUNCTION = public.$f, LEFTARG = $left, RIGHTARG = $right)") eq '';
}
cmp_ok($operators, '>', 5, "$operators operators");
$db->query('SET search_path = public, pg_catalog');
like($db->error("SELECT cardinality('{1}'::bigint[])"), qr/hijacked/, 'who looks in public first is caught');
$db->query('SET search_path = pg_catalog');

my @calls = ("snapshot(1, 101)", "changes(1, 101, '')", q{changes(1, 101, '9:8@0/0')}, "match_snapshot(1)", q{match_changes(1, '9:8@0/0')}, "match_changes(1, NULL)", "block_exists(1, 101)", "blocks_exist(1, '{101,102}')", "blocks_exist(9, '{}')",
	'matches()', 'stadium()', 'areas()', 'sections(1)', 'blocks(1)', 'block_seats(101)', "hold(1, 101, 7, '5 min')", "hold_seats(1, 7, '{101,102,103}', '5 min', 9, '1 h')", "hold_seats(1, 8, '{101,104}', '5 min', 9, '1 h')",
	'release(1, 101, 7)', "release_seats(1, 7, '{102}')", "confirm(1, 7, '{103}')", "confirm_seats(1, 7, '{103,102}')", 'checkup()');
sub caught {
	my ($says) = @_;
	my @by = grep { my $call = $_; my $said = ''; for my $path ('pg_catalog', 'public, pg_catalog') {
		my $t = $s->session(user => 'seatcast_writer');
		$said .= $t->error("SET search_path = $path; SELECT * FROM seatcast.$call");
		$t->kill;
	} $said ne '' && diag("$call: $said"); $said =~ /hijacked/ } @calls;
	is("@by", '', $says);
	return;
}
caught('sql/install.sql: nobody is caught');
$db->query("INSERT INTO public.allocations (match_id, seat_id, status) VALUES (1, 110, 'OCCUPIED'); UPDATE public.allocations SET status = 'AVAILABLE' WHERE seat_id = 110");
pass('… nor who writes himself');
my @path = $db->query(q{SELECT DISTINCT c FROM pg_proc p, unnest(p.proconfig) c WHERE p.pronamespace = 'seatcast'::regnamespace AND c LIKE 'search_path=%'});
is(join('|', map { $_->[0] } @path), 'search_path=pg_catalog, pg_temp', 'one search_path for all');
is($db->value("SELECT string_agg(p.oid::regprocedure::text, ' ') FROM pg_proc p WHERE p.pronamespace = 'seatcast'::regnamespace AND p.prosecdef AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(p.proconfig, '{}'))"), undef, '… of all that have their owner\'s rights');
for my $file ('install.sql', 'changes_updated_at.sql', 'changes_exact.sql') {
	is(eval { $s->sql_file($file); 'done' } // $@, 'done', "$file again, among them: done");
	caught("… $file: nobody is caught");
}

# Triggers of the site's that look for things need its schema: then it matters who may create there, and --check says so.
$db->query(q{CREATE TABLE public.audit (what text); CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (TG_OP); RETURN NEW; END $$;
	CREATE TRIGGER audit AFTER UPDATE ON public.allocations FOR EACH ROW EXECUTE FUNCTION public.audit()});
$s->sql_file('install.sql');
my $seller = $s->session(user => 'seatcast_writer');
is($seller->error("SELECT * FROM seatcast.hold_seats(1, 7, '{110}', '5 min', 0, NULL)"), '', 'a trigger of the site\'s finds its tables');
is($db->value('SELECT count(*) FROM public.audit'), 1, '… and fired');
caught('… and nobody is caught by our own statements');
my $said = do { local $ENV{SEATCAST_DATABASE} = $s->pg_conninfo(user => 'seatcast_writer'); my $t = qx{'@{[ binary($s->{stage}) ]}' --check --max-streams 100 --max-groups 10 2>&1}; $t };
like($said, qr/^warning: everybody may create objects in the schema public.*: REVOKE CREATE ON SCHEMA public FROM PUBLIC$/m, '--check: who may create objects there');
unlike($said, qr/hijacked/, '… which itself is not caught');
# What the program asks itself, as that role.
$s->start_seatcast(database => $s->pg_conninfo(user => 'seatcast_writer'));
is($s->http(POST => '/api/matches/1/allocation/seats/115/hold', {}, { userId => 7 })->{status}, 200, 'the program\'s own statements: hold');
$s->client('stream')->watch(1, 101)->expect_event('init')->expect_seat(115 => 'HOLD')->close;
is($s->http(GET => $_)->{status}, 200, "… $_") for '/readyz', '/api/site/areas', '/api/matches', $s->snapshot_path(1, 101);
unlike($s->log_text('seatcast'), qr/hijacked/, '… nobody is caught');
$db->query("ALTER FUNCTION seatcast.confirm_seats(bigint, bigint, bigint[]) SET search_path = public, pg_catalog");
like($s->session(user => 'seatcast_writer')->error("SELECT * FROM seatcast.confirm_seats(1, 7, '{110}')"), qr/hijacked|COALESCE types text/, 'with the schema on its path one of ours would be caught');
$s->done(allow => qr/hijacked|ERROR|caught/);
