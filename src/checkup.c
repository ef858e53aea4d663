/*
 * Three kinds of findings: about this connection and server (rows of `findings`,
 * each a query that returns one text, or nothing when all is well), about the
 * tables (seatcast.checkup() looks at them, since we may not), and about this
 * machine.  Only an error makes the exit status 1: with a warning it serves.
 */
#include <sys/resource.h>
#include <sys/stat.h>

#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checkup.h"
#include "listener.h"
#include "opts.h"

#define CLOCK_OFFSET_S	2.0	/* more than this between database and this machine is worth a word */

static const struct {
	const char	*severity, *sql;
} findings[] = {
	{ "error", "SELECT 'PostgreSQL ' || current_setting('server_version') || ' is too old: 13 or newer is needed' "
	    "WHERE current_setting('server_version_num')::int < 130000" },
	{ "error", "SELECT 'the port function seatcast.' || f || ' is missing: run psql -v ON_ERROR_STOP=1 -f sql/install.sql' "
	    "FROM unnest(ARRAY['snapshot(bigint,bigint)', 'changes(bigint,bigint,text)', 'block_exists(bigint,bigint)', "
	    "'areas()', 'sections(bigint)', 'blocks(bigint)', 'block_seats(bigint)', 'hold(bigint,bigint,bigint,interval)', "
	    "'release(bigint,bigint,bigint)', 'confirm(bigint,bigint,bigint[])']) f "
	    "WHERE to_regprocedure('seatcast.' || f) IS NULL LIMIT 1" },
	{ "error", "SELECT current_user || ' may not execute seatcast.' || f || ': connect as seatcast_reader or seatcast_writer, "
	    "or GRANT seatcast_reader TO ' || quote_ident(current_user) "
	    "FROM unnest(ARRAY['snapshot(bigint,bigint)', 'changes(bigint,bigint,text)', 'block_exists(bigint,bigint)']) f "
	    "WHERE to_regprocedure('seatcast.' || f) IS NOT NULL AND "
	    "NOT (has_schema_privilege(to_regnamespace('seatcast'), 'USAGE') "
	    "AND has_function_privilege(to_regprocedure('seatcast.' || f), 'EXECUTE')) LIMIT 1" },
	{ "warning", "SELECT current_user || ' may not allocate seats (hold, release and confirm answer 503): "
	    "connect as seatcast_writer' WHERE NOT coalesce(has_function_privilege("
	    "to_regprocedure('seatcast.hold(bigint,bigint,bigint,interval)'), 'EXECUTE'), true)" },
	{ "warning", "SELECT current_user || ' is a superuser: connect as seatcast_writer, or as seatcast_reader for streams alone' "
	    "FROM pg_roles WHERE rolname = current_user AND rolsuper" },
	{ "warning", "SELECT 'the database is a standby: streams work, hold, release and confirm answer 503' WHERE pg_is_in_recovery()" },
	{ "error", "SELECT 'seatcast.' || proname || ' is VOLATILE: rows and cursor would be of different snapshots; make it STABLE' "
	    "FROM pg_proc WHERE pronamespace = to_regnamespace('seatcast') AND proname IN ('snapshot', 'changes') AND provolatile = 'v' LIMIT 1" },
	{ "error", "SELECT 'seatcast.time_zone is ''' || z || ''', which is no time zone: ALTER DATABASE ' || quote_ident(current_database()) || "
	    "' SET seatcast.time_zone = ''UTC''' FROM (SELECT nullif(current_setting('seatcast.time_zone', true), '') z) s "
	    "WHERE z IS NOT NULL AND NOT EXISTS (SELECT FROM pg_timezone_names WHERE lower(name) = lower(z))" },
	{ "warning", "SELECT 'a transaction of ' || coalesce(usename, '?') || ' (pid ' || pid || ') is open since ' || xact_start::timestamp(0) || "
	    "': polls answer with more rows the longer it stays; end it: SELECT pg_terminate_backend(' || pid || ')' "
	    "FROM pg_stat_activity WHERE xact_start < now() - interval '5 minutes' "
	    "AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) ORDER BY xact_start LIMIT 1" },
	{ "warning", "SELECT count(*) || ' prepared transactions are older than 5 minutes: COMMIT PREPARED or ROLLBACK PREPARED them (pg_prepared_xacts)' "
	    "FROM pg_prepared_xacts WHERE prepared < now() - interval '5 minutes' HAVING count(*) > 0" },
};

static int	errors;

static void
say(const char *severity, const char *text)
{
	printf("%s: %s\n", severity, text);
	errors += strcmp(severity, "error") == 0;
}

/* Rows of one column are texts of that severity; of two, severity and text. */
static void
ask(PGconn *conn, const char *severity, const char *sql)
{
	PGresult	*r = PQexec(conn, sql);
	int		 i;

	if (PQresultStatus(r) != PGRES_TUPLES_OK)
		printf("warning: a check could not be run: %s", PQresultErrorMessage(r));
	for (i = 0; i < PQntuples(r); i++)
		if (PQnfields(r) == 2)
			say(PQgetvalue(r, i, 0), PQgetvalue(r, i, 1));
		else if (!PQgetisnull(r, i, 0))
			say(severity, PQgetvalue(r, i, 0));
	PQclear(r);
}

/* One number, or `otherwise`. */
static double
number(PGconn *conn, const char *sql, double otherwise)
{
	PGresult	*r = PQexec(conn, sql);
	double		 value = otherwise;

	if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 && !PQgetisnull(r, 0, 0))
		value = strtod(PQgetvalue(r, 0, 0), NULL);
	PQclear(r);
	return (value);
}

static void
check_connections(PGconn *conn, const struct opts *o)
{
	double	most = number(conn, "SELECT current_setting('max_connections')::int - "
		    "current_setting('superuser_reserved_connections')::int", -1);
	long	need = o->max_groups + o->workers;
	char	text[256];

	if (most < 0 || most >= (double)need)
		return;
	snprintf(text, sizeof(text), "max_connections leaves %.0f connections; --max-groups and --workers may need %ld: "
	    "raise it, lower them, or connect through PgBouncer", most, need);
	say("warning", text);
}

/* What is shown as asOf, and when holds end, is the database's clock: a difference confuses people, not seatcast. */
static void
check_clock(PGconn *conn)
{
	double	theirs = number(conn, "SELECT extract(epoch FROM clock_timestamp())", -1);
	double	offset = theirs - (double)time(NULL);
	char	text[256];

	if (theirs < 0 || (offset > -CLOCK_OFFSET_S && offset < CLOCK_OFFSET_S))
		return;
	snprintf(text, sizeof(text), "the clocks of the database and of this machine differ by %.0f s: "
	    "run NTP on both (holds end by the database's)", offset);
	say("warning", text);
}

static void
check_descriptors(const struct opts *o)
{
	struct rlimit	rl;
	char		text[256];

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1 || rl.rlim_max == RLIM_INFINITY || (long)rl.rlim_max >= o->max_streams + 64)
		return;
	snprintf(text, sizeof(text), "a process may open %ld files here, too few for --max-streams %ld: raise the limit "
	    "(LimitNOFILE= of the unit, ulimit -Hn)", (long)rl.rlim_max, o->max_streams);
	say("warning", text);
}

static void
check_backlog(void)
{
	FILE	*f = fopen("/proc/sys/net/core/somaxconn", "r");
	char	 text[256];
	long	 most = LISTENER_BACKLOG;

	if (f != NULL && fscanf(f, "%ld", &most) != 1)
		most = LISTENER_BACKLOG;
	if (f != NULL)
		fclose(f);
	if (most >= LISTENER_BACKLOG)
		return;
	snprintf(text, sizeof(text), "net.core.somaxconn is %ld: a rush fills the socket's queue and web servers answer 500; "
	    "sysctl net.core.somaxconn=%d", most, LISTENER_BACKLOG);
	say("warning", text);
}

/* Whoever may connect to the FastCGI socket is the web server: say who that is. */
static void
check_socket(const struct opts *o)
{
	struct stat	 st;
	struct passwd	*owner;
	struct group	*group;
	char		 text[512];

	if (o->listen == NULL)
		return;
	if (strchr(o->listen, '/') == NULL) {
		snprintf(text, sizeof(text), "--listen %s is TCP, and FastCGI has no authentication: everybody who reaches it "
		    "is the web server; prefer a unix socket", o->listen);
		say("warning", text);
		return;
	}
	if (o->listen_mode & 0006)
		say("warning", "--listen-mode lets every user of this machine connect to the FastCGI socket: use 0660 and the web server's group");
	if (stat(o->listen, &st) == -1)
		return;
	owner = getpwuid(st.st_uid);
	group = getgrgid(st.st_gid);
	printf("socket: %s, mode %04o, owner %s, group %s\n", o->listen, (unsigned)st.st_mode & 0777u,
	    owner != NULL ? owner->pw_name : "?", group != NULL ? group->gr_name : "?");
}

static void
check_database(PGconn *conn, const struct opts *o)
{
	size_t i;

	printf("database: %s at %s, as %s, server %s\n", PQdb(conn), PQhost(conn), PQuser(conn),
	    PQparameterStatus(conn, "server_version"));
	for (i = 0; i < sizeof(findings) / sizeof(findings[0]); i++)
		ask(conn, findings[i].severity, findings[i].sql);
	if (number(conn, "SELECT 1 WHERE to_regprocedure('seatcast.checkup()') IS NOT NULL "
	    "AND has_function_privilege(to_regprocedure('seatcast.checkup()'), 'EXECUTE')", 0) > 0)
		ask(conn, NULL, "SELECT * FROM seatcast.checkup()");
	check_connections(conn, o);
	check_clock(conn);
}

int
check_main(const struct opts *o)
{
	PGconn *conn = PQconnectdb(o->database != NULL ? o->database : "");

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (PQstatus(conn) != CONNECTION_OK) {
		printf("error: database: %s", PQerrorMessage(conn));
		printf("       say where it is with --database or SEATCAST_DATABASE, e.g. \"host=/run/postgresql dbname=tickets user=seatcast_reader\"\n");
		errors++;
	} else
		check_database(conn, o);
	PQfinish(conn);
	check_descriptors(o);
	check_backlog();
	check_socket(o);
	puts(errors == 0 ? "ok: ready to serve" : "not ready: mend the errors above");
	return (errors == 0 ? 0 : 1);
}
