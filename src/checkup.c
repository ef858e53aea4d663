/*
 * Each finding is one row of `findings`: a query that returns one text, NULL or
 * no row when all is well.  They look at the catalogue, not at the data, but for
 * a few cheap counts.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkup.h"
#include "opts.h"

enum severity { BAD, WARN };

static const struct {
	enum severity	 severity;
	const char	*sql;
} findings[] = {
	{ BAD, "SELECT 'PostgreSQL ' || current_setting('server_version') || ' is too old: 13 or newer is needed' "
	    "WHERE current_setting('server_version_num')::int < 130000" },
	{ BAD, "SELECT 'the port function seatcast.' || f || ' is missing: run psql -v ON_ERROR_STOP=1 -f sql/install.sql' "
	    "FROM unnest(ARRAY['snapshot(bigint,bigint)', 'changes(bigint,bigint,text)', 'block_exists(bigint,bigint)', "
	    "'areas()', 'sections(bigint)', 'blocks(bigint)', 'block_seats(bigint)']) f "
	    "WHERE to_regprocedure('seatcast.' || f) IS NULL LIMIT 1" },
	{ BAD, "SELECT current_user || ' may not execute seatcast.' || f || ': connect as seatcast_reader or seatcast_writer, or GRANT seatcast_reader TO ' || quote_ident(current_user) "
	    "FROM unnest(ARRAY['snapshot(bigint,bigint)', 'changes(bigint,bigint,text)', 'block_exists(bigint,bigint)']) f "
	    "WHERE NOT has_schema_privilege(to_regnamespace('seatcast'), 'USAGE') "
	    "OR NOT has_function_privilege(to_regprocedure('seatcast.' || f), 'EXECUTE') LIMIT 1" },
	{ WARN, "SELECT current_user || ' may not allocate seats (hold, release and confirm answer 503): connect as seatcast_writer' WHERE NOT coalesce(has_function_privilege("
	    "to_regprocedure('seatcast.hold(bigint,bigint,bigint,interval)'), 'EXECUTE'), false)" },
	{ WARN, "SELECT 'the database is a read-only standby: streams work, hold, release and confirm answer 503' WHERE pg_is_in_recovery()" },
	{ WARN, "SELECT current_user || ' is a superuser: connect as seatcast_writer, or as seatcast_reader for streams alone' "
	    "FROM pg_roles WHERE rolname = current_user AND rolsuper" },
	{ BAD, "SELECT 'seatcast.' || proname || ' is VOLATILE: rows and cursor would be of different snapshots; make it STABLE' "
	    "FROM pg_proc WHERE pronamespace = to_regnamespace('seatcast') AND proname IN ('snapshot', 'changes') AND provolatile = 'v' LIMIT 1" },
	{ BAD, "SELECT 'the trigger that keeps changed_xid on ' || c.oid::regclass || ' is missing or not ENABLE ALWAYS: run sql/install.sql' "
	    "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'changed_xid' AND NOT a.attisdropped "
	    "WHERE c.relname = 'allocations' AND c.relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
	    "WHERE t.tgrelid = c.oid AND p.pronamespace = to_regnamespace('seatcast') AND t.tgenabled = 'A') LIMIT 1" },
	{ BAD, "SELECT 'seatcast.time_zone is ''' || z || ''', which is no time zone: ALTER DATABASE … SET seatcast.time_zone = ''UTC''' "
	    "FROM nullif(current_setting('seatcast.time_zone', true), '') z WHERE z IS NOT NULL "
	    "AND NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = z)" },
	{ WARN, "SELECT 'a transaction of ' || coalesce(usename, '?') || ' (pid ' || pid || ') is open since ' || xact_start::timestamp(0) || "
	    "': polls answer with more rows the longer it stays' FROM pg_stat_activity WHERE xact_start < now() - interval '5 minutes' "
	    "AND backend_xid IS NOT NULL ORDER BY xact_start LIMIT 1" },
	{ WARN, "SELECT count(*) || ' prepared transactions are older than 5 minutes: COMMIT PREPARED or ROLLBACK PREPARED them' "
	    "FROM pg_prepared_xacts WHERE prepared < now() - interval '5 minutes' HAVING count(*) > 0" },
};

static void
connections_finding(PGconn *conn, const struct opts *o)
{
	PGresult	*r;
	long		 most = 0, need = o->max_groups + o->workers;

	r = PQexec(conn, "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int");
	if (PQresultStatus(r) == PGRES_TUPLES_OK)
		most = strtol(PQgetvalue(r, 0, 0), NULL, 10);
	PQclear(r);
	if (most == 0 || most >= need)
		return;
	printf("warning: max_connections leaves %ld connections; --max-groups and --workers may need %ld: "
	    "raise it, lower them, or connect through PgBouncer\n", most, need);
}

/* 1: a finding that is BAD was printed. */
static int
run_finding(PGconn *conn, enum severity severity, const char *sql)
{
	PGresult	*r = PQexec(conn, sql);
	int		 bad = 0;

	if (PQresultStatus(r) != PGRES_TUPLES_OK) {
		printf("warning: a check could not be run: %s", PQresultErrorMessage(r));
	} else if (PQntuples(r) > 0 && !PQgetisnull(r, 0, 0)) {
		printf("%s: %s\n", severity == BAD ? "error" : "warning", PQgetvalue(r, 0, 0));
		bad = severity == BAD;
	}
	PQclear(r);
	return (bad);
}

int
check_main(const struct opts *o)
{
	PGconn	*conn = PQconnectdb(o->database != NULL ? o->database : "");
	size_t	 i;
	int	 bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (PQstatus(conn) != CONNECTION_OK) {
		printf("error: database: %s", PQerrorMessage(conn));
		printf("       say where it is with --database or SEATCAST_DATABASE, e.g. \"host=/run/postgresql dbname=tickets user=seatcast_reader\"\n");
		PQfinish(conn);
		return (1);
	}
	printf("database: %s at %s, as %s, server %s\n", PQdb(conn), PQhost(conn), PQuser(conn),
	    PQparameterStatus(conn, "server_version"));
	for (i = 0; i < sizeof(findings) / sizeof(findings[0]); i++)
		bad += run_finding(conn, findings[i].severity, findings[i].sql);
	connections_finding(conn, o);
	PQfinish(conn);
	puts(bad == 0 ? "ok: ready to serve" : "not ready: mend the errors above");
	return (bad == 0 ? 0 : 1);
}
