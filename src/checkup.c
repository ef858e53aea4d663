/* SPDX-License-Identifier: ISC */
/*
 * Three kinds of findings: about this connection and server (rows of `findings`,
 * each a query that returns texts, or nothing when all is well), about the
 * tables (seatcast.checkup() looks at them, since we may not), and about this
 * machine.  Only an error makes the exit status 1: with a warning it serves.
 * A finding ends with the command that mends it, if one does.
 *
 * Nothing is waited for longer than it takes to be sure: connect_timeout for the
 * connection, statement_timeout at the server for a query, and for a server that
 * is there but does not answer, our own clock.
 */
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/fd.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "base/title.h"
#include "checkup.h"
#include "shared/conninfo.h"

#define CLOCK_OFFSET_S		2.0	/* more than this between database and this machine is worth a word */
#define CONNECT_TIMEOUT		"5"	/* s; what --database says counts */
#define STATEMENT_TIMEOUT	"10s"	/* checkup() counts rows of whole tables */
#define ANSWER_TIMEOUT_MS	15000	/* the server is frozen, or the network cut */

/* The functions of the port by what stays away without them. */
#define HOLD		"'seatcast.hold_seats(bigint,bigint,bigint[],interval,integer,interval)'"
#define STREAMS		"'seatcast.snapshot(bigint,bigint)','seatcast.changes(bigint,bigint,text)','seatcast.block_exists(bigint,bigint)'," \
			"'seatcast.match_snapshot(bigint)','seatcast.match_changes(bigint,text)','seatcast.blocks_exist(bigint,bigint[])'"
#define LISTS		"'seatcast.areas()','seatcast.sections(bigint)','seatcast.blocks(bigint)','seatcast.block_seats(bigint)'," \
			"'seatcast.stadium()','seatcast.matches()'"
#define ALLOCATION	HOLD ",'seatcast.release_seats(bigint,bigint,bigint[])','seatcast.confirm_seats(bigint,bigint,bigint[])'," \
			"'seatcast.hold(bigint,bigint,bigint,interval)','seatcast.release(bigint,bigint,bigint)'," \
			"'seatcast.confirm(bigint,bigint,bigint[])'"

/* Those of a list that are there and that we may not execute, as one row (f), or none. */
#define DENIED(list)	"FROM (SELECT string_agg(f, ', ') FROM pg_catalog.unnest(ARRAY[" list "]) f WHERE to_regprocedure(f) IS NOT NULL " \
			"AND NOT has_function_privilege(to_regprocedure(f), 'EXECUTE')) s (f) WHERE f IS NOT NULL "
/* How we get them: by the role they belong to, or, if we have that one already, it gets them back. */
#define GRANT(role)	"|| CASE WHEN pg_has_role(current_user, to_regrole('" role "'), 'USAGE') THEN 'GRANT EXECUTE ON FUNCTION ' || f || ' TO " role "' " \
			"ELSE 'GRANT " role " TO ' || quote_ident(current_user) END "

/* What AT TIME ZONE takes besides names and abbreviations: an offset, with a name before it or without (PostgreSQL B.5). */
#define POSIX_ZONE	"'^(<[A-Za-z0-9+-]+>|[A-Za-z]{3,})?[+-]?[0-9]{1,2}(:[0-9]{2}){0,2}$'"

static const struct {
	const char	*severity, *sql;
} findings[] = {
	/* the first: when it is found, no other can be asked */
	{ "error", "SELECT current_user || ' may not use the schema seatcast: ' || CASE WHEN pg_has_role(current_user, to_regrole('seatcast_reader'), 'USAGE') "
	    "THEN 'GRANT USAGE ON SCHEMA seatcast TO seatcast_reader, seatcast_writer' ELSE 'GRANT seatcast_reader TO ' || quote_ident(current_user) END "
	    "WHERE NOT has_schema_privilege(to_regnamespace('seatcast'), 'USAGE')" },
	{ "error", "SELECT 'PostgreSQL ' || current_setting('server_version') || ' is too old: 13 or newer is needed' "
	    "WHERE current_setting('server_version_num')::int < 130000" },
	{ "error", "SELECT 'these functions of the port are missing: ' || string_agg(f, ', ') || ': run psql -v ON_ERROR_STOP=1 -f sql/install.sql' "
	    "FROM pg_catalog.unnest(ARRAY[" STREAMS "," LISTS "," ALLOCATION "]) f WHERE to_regprocedure(f) IS NULL HAVING count(*) > 0" },
	{ "warning", "SELECT 'the roles seatcast_reader and seatcast_writer are not both there: run psql -v ON_ERROR_STOP=1 -f sql/roles.sql' "
	    "WHERE to_regrole('seatcast_reader') IS NULL OR to_regrole('seatcast_writer') IS NULL" },
	{ "error", "SELECT current_user || ' may not execute ' || f || ', so that no stream works: ' " GRANT("seatcast_reader") DENIED(STREAMS) },
	{ "warning", "SELECT current_user || ' may not execute ' || f || ', so that the site cannot be listed (503): ' " GRANT("seatcast_reader")
	    DENIED(LISTS) },
	{ "warning", "SELECT current_user || ' may not allocate seats: hold, release and confirm answer 503; connect as seatcast_writer, if they are wanted' "
	    DENIED(ALLOCATION) "AND pg_has_role(current_user, to_regrole('seatcast_writer'), 'USAGE') IS NOT TRUE" },
	{ "error", "SELECT current_user || ' may not execute ' || f || ', so that seats cannot be sold (503): ' " GRANT("seatcast_writer")
	    DENIED(ALLOCATION) "AND pg_has_role(current_user, to_regrole('seatcast_writer'), 'USAGE')" },
	{ "warning", "SELECT 'transactions of ' || current_user || ' are read-only: hold, release and confirm answer 503: ALTER ROLE ' "
	    "|| quote_ident(current_user) || ' SET default_transaction_read_only = off' WHERE current_setting('default_transaction_read_only')::bool "
	    "AND has_function_privilege(to_regprocedure(" HOLD "), 'EXECUTE')" },
	{ "warning", "SELECT current_user || ' is a superuser: connect as seatcast_writer, or as seatcast_reader for streams alone' "
	    "FROM pg_roles WHERE rolname = current_user AND rolsuper" },
	{ "warning", "SELECT 'everybody may execute ' || string_agg(oid::regprocedure::text, ', ') || ': REVOKE ALL ON ALL FUNCTIONS IN SCHEMA seatcast FROM PUBLIC' "
	    "FROM pg_proc WHERE pronamespace = to_regnamespace('seatcast') AND prosecdef AND prorettype <> 'trigger'::regtype "
	    "AND has_function_privilege('public', oid, 'EXECUTE') HAVING count(*) > 0" },
	{ "warning", "SELECT 'seatcast_reader may execute ' || string_agg(f, ', ') || ', which is for seatcast_writer alone: REVOKE EXECUTE ON FUNCTION ' "
	    "|| string_agg(f, ', ') || ' FROM seatcast_reader' FROM pg_catalog.unnest(ARRAY[" ALLOCATION "]) f "
	    "WHERE has_function_privilege(to_regrole('seatcast_reader'), to_regprocedure(f), 'EXECUTE') AND NOT has_function_privilege('public', to_regprocedure(f), 'EXECUTE') "
	    "HAVING count(*) > 0" },
	{ "warning", "SELECT 'the database is a standby: streams work, hold, release and confirm answer 503' WHERE pg_is_in_recovery()" },
	{ "error", "SELECT oid::regprocedure || ' is VOLATILE, so that rows and cursor would be of different snapshots: ALTER FUNCTION ' || oid::regprocedure "
	    "|| ' STABLE' FROM pg_proc WHERE pronamespace = to_regnamespace('seatcast') AND proname IN ('snapshot', 'changes', 'match_snapshot', 'match_changes') AND provolatile = 'v'" },
	{ "error", "SELECT 'seatcast.time_zone is ''' || z || ''', which is no time zone: ALTER DATABASE ' || quote_ident(current_database()) || "
	    "' SET seatcast.time_zone = ''UTC''' FROM (SELECT nullif(current_setting('seatcast.time_zone', true), '') z) s "
	    "WHERE z IS NOT NULL AND NOT EXISTS (SELECT FROM pg_timezone_names WHERE lower(name) = lower(z)) "
	    "AND NOT EXISTS (SELECT FROM pg_timezone_abbrevs WHERE lower(abbrev) = lower(z)) "
	    "AND z !~ " POSIX_ZONE },
	{ "warning", "SELECT 'a transaction is prepared since ' || date_trunc('second', prepared) || ', and polls answer with more rows the longer it stays: "
	    "in the database ' || database || ', COMMIT PREPARED ' || quote_literal(gid) || ' or ROLLBACK PREPARED ' || quote_literal(gid) "
	    "FROM pg_prepared_xacts WHERE prepared < now() - interval '5 minutes' ORDER BY prepared LIMIT 5" },
};

static int	errors, warnings;
static bool	to_log;			/* nothing is printed: counted, and the worst is kept for one line of the log */
static char	worst[512];

static void	say(const char *, const char *, ...) __attribute__((format(printf, 2, 3)));

static void
say(const char *severity, const char *fmt, ...)
{
	bool	error = strcmp(severity, "error") == 0;
	va_list	ap;

	va_start(ap, fmt);
	if (to_log) {
		if (error ? errors == 0 : errors + warnings == 0)
			vsnprintf(worst, sizeof(worst), fmt, ap);
	} else {
		printf("%s: ", severity);
		vprintf(fmt, ap);
		putchar('\n');
	}
	va_end(ap);
	errors += error;
	warnings += !error;
}

static void	tell(const char *, ...) __attribute__((format(printf, 1, 2)));

/* What is no finding. */
static void
tell(const char *fmt, ...)
{
	va_list	ap;

	va_start(ap, fmt);
	if (!to_log)
		vprintf(fmt, ap);
	va_end(ap);
}

/* The answer to a query, or NULL when it does not come: the connection is then of no use. */
static PGresult *
query(PGconn *conn, const char *sql)
{
	int64_t		 end = mono_ms() + ANSWER_TIMEOUT_MS, left;
	struct pollfd	 pfd = { .fd = PQsocket(conn), .events = POLLIN };
	PGresult	*r, *last = NULL;

	if (PQstatus(conn) != CONNECTION_OK || !PQsendQuery(conn, sql))
		return (NULL);
	for (;;) {
		while (!PQisBusy(conn)) {
			if ((r = PQgetResult(conn)) == NULL)
				return (last);
			PQclear(last);
			last = r;
		}
		if ((left = end - mono_ms()) > 0 && (poll(&pfd, 1, (int)left) != -1 || errno == EINTR) && PQconsumeInput(conn))
			continue;
		PQclear(last);
		return (NULL);
	}
}

/* Rows of one column are texts of that severity; of two (severity NULL), severity and text.  How many; -1: there is no use in going on. */
static int
ask(PGconn *conn, const char *severity, const char *sql)
{
	PGresult	*r = query(conn, sql);
	const char	*why = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	int		 i, n = PQntuples(r);

	if (r == NULL) {
		say("error", "the database has stopped answering in the middle of the checks: look at its log");
		return (-1);
	}
	if (PQresultStatus(r) != PGRES_TUPLES_OK && PQresultStatus(r) != PGRES_COMMAND_OK)
		say(severity != NULL ? "warning" : "error", "a check could not be run: %s", why != NULL ? why : "no rows");
	for (i = 0; i < n; i++)
		if (PQnfields(r) == 2)
			say(PQgetvalue(r, i, 0), "%s", PQgetvalue(r, i, 1));
		else if (!PQgetisnull(r, i, 0))
			say(severity, "%s", PQgetvalue(r, i, 0));
	PQclear(r);
	return (n);
}

/* One number, or `otherwise`. */
static double
number(PGconn *conn, const char *sql, double otherwise)
{
	PGresult	*r = query(conn, sql);
	double		 value = otherwise;

	if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 && !PQgetisnull(r, 0, 0))
		value = strtod(PQgetvalue(r, 0, 0), NULL);
	PQclear(r);
	return (value);
}

/* A pooler gives a process id of its own.  Then the server's max_connections is the pooler's business. */
static void
check_connections(PGconn *conn, const struct opts *o)
{
	long	need = o->max_groups + 2 * o->workers;	/* a worker reads on one, and writes on another */
	double	pid = number(conn, "SELECT pg_backend_pid()", -1), most, mine;

	if (pid < 0)
		return;
	if ((int)pid != PQbackendPID(conn)) {
		tell("pooler: yes; it has to take %ld connections of this seatcast (PgBouncer: max_client_conn)\n", need);
		return;
	}
	most = number(conn, "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int", need);
	if (most < (double)need)
		say("warning", "max_connections leaves %.0f connections, and --max-groups and --workers may need %ld: lower these, "
		    "connect through PgBouncer, or restart PostgreSQL after: ALTER SYSTEM SET max_connections = %ld", most, need, need + 20);
	mine = number(conn, "SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user AND rolconnlimit >= 0", need);
	if (mine < (double)need)
		say("warning", "this role may have %.0f connections, and --max-groups and --workers may need %ld: ALTER ROLE %s CONNECTION LIMIT %ld",
		    mine, need, PQuser(conn), need);
}

static double
wall_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ((double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
}

/* What is shown as asOf, and when holds end, is the database's clock: a difference confuses people, not seatcast. */
static void
check_clock(PGconn *conn)
{
	double	before = wall_clock();
	double	theirs = number(conn, "SELECT extract(epoch FROM clock_timestamp())", -1);
	double	after = wall_clock();

	if (theirs >= 0 && (theirs < before - CLOCK_OFFSET_S || theirs > after + CLOCK_OFFSET_S))
		say("warning", "the clocks of the database and of this machine differ by %.0f s: run NTP on both (holds end by the database's)",
		    theirs - before);
}

static void
check_descriptors(const struct opts *o)
{
	struct rlimit	rl;
	long		need = o->max_streams + FD_SPARE;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1 || rl.rlim_max == RLIM_INFINITY || (long)rl.rlim_max >= need)
		return;
	say("warning", "a process may open %ld files here, too few for --max-streams %ld: raise the limit, by LimitNOFILE=%ld in the unit or ulimit -Hn %ld",
	    (long)rl.rlim_max, o->max_streams, need, need);
}

static void
check_backlog(void)
{
	FILE	*f = fopen("/proc/sys/net/core/somaxconn", "r");
	long	 most = LISTENER_BACKLOG;

	if (f == NULL)
		return;
	if (fscanf(f, "%ld", &most) == 1 && most < LISTENER_BACKLOG)
		say("warning", "net.core.somaxconn is %ld, and a rush fills the socket's queue (web servers answer 500): sysctl -w net.core.somaxconn=%d",
		    most, LISTENER_BACKLOG);
	fclose(f);
}

static const char *
user_name(uid_t uid)
{
	struct passwd *pw = getpwuid(uid);

	return (pw != NULL ? pw->pw_name : "?");
}

static const char *
group_name(gid_t gid)
{
	struct group *gr = getgrgid(gid);

	return (gr != NULL ? gr->gr_name : "?");
}

/* Whoever may connect to the FastCGI socket is the web server: say who that is. */
static void
check_socket(const struct opts *o)
{
	struct stat	 st, dir;
	char		 path[256];
	bool		 there = true;

	if (o->listen == NULL)
		return;
	if (strchr(o->listen, '/') == NULL) {
		say("warning", "--listen %s is TCP, and FastCGI has no authentication: everybody who reaches it is the web server; prefer a unix socket",
		    o->listen);
		return;
	}
	if (o->listen_mode & 0006)
		say("warning", "--listen-mode lets every user of this machine connect to the FastCGI socket: use the web server's group and --listen-mode 0660");
	if (stat(o->listen, &st) == -1) {
		st.st_uid = geteuid();
		st.st_gid = getegid();
		st.st_mode = S_IFSOCK | (mode_t)o->listen_mode;
		there = false;
	}
	if (st.st_uid == 0 && st.st_gid == 0 && !(st.st_mode & 0002))
		say("warning", "nobody but root may connect to %s, and a web server that runs as another user answers 503: "
		    "run seatcast with the web server's group, as etc/seatcast.service and etc/rc.seatcast do", o->listen);
	if (!S_ISSOCK(st.st_mode))
		say("error", "%s is in the way of the FastCGI socket and is none: rm '%s'", o->listen, o->listen);
	else if (there)
		tell("socket: %s, mode %04o, owner %s, group %s\n", o->listen, (unsigned)st.st_mode & 0777u, user_name(st.st_uid), group_name(st.st_gid));
	else
		tell("socket: %s is to come, mode %04o, owner %s, group %s\n", o->listen, (unsigned)o->listen_mode, user_name(st.st_uid), group_name(st.st_gid));
	snprintf(path, sizeof(path), "%s", o->listen);
	if (stat(dirname(path), &dir) == 0 && !(dir.st_mode & 0001))
		tell("socket: its directory lets through owner %s%s%s only\n", user_name(dir.st_uid),
		    dir.st_mode & 0010 ? " and group " : "", dir.st_mode & 0010 ? group_name(dir.st_gid) : "");
}

static void
tell_of_users(const struct opts *o)
{
	if (o->user_param != NULL)
		tell("allocation: the user is who %s names\n", o->user_param);
	else
		tell("allocation: whoever may POST to it may name any user: let only the site's own servers through, "
		    "or say with --user-param who is logged in\n");
}

/* What somebody would have who got in. */
static void
tell_of_rights(const struct opts *o)
{
	char	means[128];

	if (geteuid() == 0)
		tell("user: root, of whose rights nothing here has any use: run it as a user of its own\n");
	tell("confined: %s\n", o->unconfined ? "no: --unconfined" : confine_means(means, sizeof(means)));
}

static void
check_database(PGconn *conn, const struct opts *o)
{
	size_t	i;
	int	n;

	tell("database: %s at %s, as %s, server %s\n", PQdb(conn), PQhost(conn), PQuser(conn),
	    PQparameterStatus(conn, "server_version"));
	tell_of_users(o);
	/*
	 * One transaction, so that a pooler's server gets its settings back; read-only, so that nothing is changed; and
	 * without the schemas of others, who might have functions and operators there for us to call.
	 */
	if (ask(conn, "error", "BEGIN READ ONLY") == -1 || ask(conn, "error", "SET LOCAL search_path = pg_catalog, pg_temp") == -1 ||
	    ask(conn, "error", "SET LOCAL statement_timeout = '" STATEMENT_TIMEOUT "'") == -1)
		return;
	for (i = 0; i < sizeof(findings) / sizeof(findings[0]); i++) {
		if (ask(conn, "error", "SAVEPOINT one") == -1 || (n = ask(conn, findings[i].severity, findings[i].sql)) == -1 ||
		    ask(conn, "error", "ROLLBACK TO one") == -1 || (n > 0 && i == 0))
			return;
	}
	if (number(conn, "SELECT has_function_privilege(to_regprocedure('seatcast.checkup()'), 'EXECUTE')::int", 0) == 0)
		tell("tables: not looked at, as there is no seatcast.checkup() that this role may execute\n");
	else if (ask(conn, NULL, "SELECT * FROM seatcast.checkup()") == -1)
		return;
	check_connections(conn, o);
	check_clock(conn);
	if (ask(conn, "error", "ROLLBACK") == -1)
		return;
	/* the writes are tried for real, and undone by the function itself; where only streams are wanted nobody may call it */
	if (number(conn, "SELECT pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('seatcast.trial(boolean)'), 'EXECUTE')::int", 0) == 1)
		(void)ask(conn, NULL, "SELECT * FROM seatcast.trial()");
}

/* As db.c connects, but with a bound. */
static PGconn *
connect_bounded(const char *conninfo)
{
	const char *key[] = { "connect_timeout", "application_name", "dbname", NULL };
	const char *val[] = { CONNECT_TIMEOUT, "seatcast", conninfo, NULL };

	return (PQconnectdbParams(key, val, 1));
}

/* libpq's words, on one line, and what helps. */
static void
say_unreachable(const char *error)
{
	char	line[512];
	size_t	i;

	snprintf(line, sizeof(line), "%s", error);
	for (i = strlen(line); i > 0 && line[i - 1] == '\n'; i--)
		line[i - 1] = '\0';
	for (i = 0; line[i] != '\0'; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	if (conninfo_advice(error) != NULL)
		say("error", "database: %s: %s", line, conninfo_advice(error));
	else
		say("error", "database: %s: say where it is with --database or SEATCAST_DATABASE, "
		    "e.g. \"host=/run/postgresql dbname=tickets user=seatcast_reader\"", line);
}

static void
check_all(const struct opts *o)
{
	PGconn *conn = connect_bounded(o->database != NULL ? o->database : "");

	if (PQstatus(conn) == CONNECTION_OK)
		check_database(conn, o);
	else
		say_unreachable(PQerrorMessage(conn));
	PQfinish(conn);
	check_descriptors(o);
	check_backlog();
	check_socket(o);
	tell_of_rights(o);
}

int
check_main(const struct opts *o)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	check_all(o);
	puts(errors == 0 ? "ok: ready to serve" : "not ready: mend the errors above");
	return (errors == 0 ? 0 : 1);
}

/* In the child: nothing of the parent's is kept but where the log goes. */
static void
check_and_log(const struct opts *o, pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1 || getppid() != parent)
		_exit(0);
	(void)close(STDIN_FILENO);
	closefrom(STDERR_FILENO + 1);
	(void)open("/dev/null", O_RDONLY);
	log_process("check");
	title_set("check");
	to_log = true;
	confine(CONFINE_LOOP);	/* it asks the database, as they do */
	check_all(o);
	if (errors + warnings == 0)
		log_info("all is well, as --check would say");
	else
		log_warnx("--check finds %d errors and %d warnings; the first: %s", errors, warnings, worst);
	_exit(0);
}

void
check_at_start(const struct opts *o)
{
	pid_t parent = getpid();

	fflush(NULL);
	if (fork() == 0)
		check_and_log(o, parent);
}
