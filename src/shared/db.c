/* SPDX-License-Identifier: ISC */
/*
 * States: OFF (nothing asked yet, or waiting to try again), RESOLVING (names),
 * CONNECTING, IDLE, BUSY (the head of the queue is in flight), ABANDONED (that
 * query was cancelled: its answer comes and is dropped).  set_state() is the only
 * one who changes it; every way out of a connection goes through lose().
 *
 * Retry: 100 ms doubling to 3 s, each pause drawn between half and the whole of
 * it, so that hundreds of loops do not come back in step.  A connection has
 * proved itself when it has lived for a quarter of a second and answers; only then is
 * the database back and the ladder begun anew.  Connections that are accepted
 * and cut again, or never answer, are no storm and one line in the log.
 *
 * Several hosts: libpq walks the list on errors by itself, but a host that just
 * never answers would hold an asynchronous connect for ever (34.1:
 * connect_timeout is ignored by PQconnectPoll).  So an attempt that times out
 * turns the list, and the next one begins with the next address.
 *
 * Name servers: what they said last is used when they are silent now.  Silence
 * costs a second then, and three where nothing is known.
 *
 * A server may end sessions that are idle (idle_session_timeout).  That is no loss:
 * the connection is opened again when there is something to ask, and what was sent
 * into the ending one was not read (57P05 is given to sessions that wait for a
 * query), so it is sent again.
 */
#include <bsd/stdlib.h>
#include <stdio.h>
#include <string.h>

#include <utlist.h>

#include "base/log.h"
#include "base/mono.h"
#include "base/must.h"
#include "shared/board.h"
#include "shared/conninfo.h"
#include "shared/db.h"
#include "shared/hosts.h"

#define RESOLVE_TIMEOUT_S	3.0
#define RESOLVE_AGAIN_S		1.0	/* when there is an earlier answer */
#define CONNECT_TIMEOUT_S	3.0
#define ABANDONED_TIMEOUT_S	5.0	/* a cancelled query's answer, which nobody waits for */
#define PROOF_S			0.25
#define RETRY_FIRST_MS		100
#define RETRY_SHORT_MS		500	/* at most, after a connection that answered at least once */
#define RETRY_LAST_MS		3000

#define IDLE_SESSION_TIMEOUT	"57P05"
#define AT_ONCE			0.0
#define NO_TIMEOUT		(-1.0)

enum db_state { DB_OFF, DB_RESOLVING, DB_CONNECTING, DB_IDLE, DB_BUSY, DB_ABANDONED, DB_STATES };

struct db {
	struct ev_loop		*ev;
	struct board_slot	*slot;
	struct hosts		*hosts;
	PGconn			*conn;
	PGresult		*result;	/* of the query in flight, until the server is ready again */
	enum db_state		 state;
	bool			 lost;		/* the last attempt or connection failed, and none has proved itself since */
	bool			 answered;	/* this connection has answered a query */
	char			 fatal[256];	/* what the server said when it ended an idle connection; "" nothing */
	bool			 idle_ended;	/* it did so because it was idle */
	bool			 unsendable;	/* what was submitted could not be sent: to be lost */
	int64_t			 lost_ms;	/* since when */
	unsigned		 generation;	/* connections so far */
	long			 retry_ms;
	ev_io			 io;
	ev_timer		 timer;		/* of the state: what it waits for has not come (timeouts[]) */
	ev_timer		 proof;		/* IDLE or BUSY: has the connection proved itself? */
	ev_timer		 kick;		/* 0 s: go on outside the caller's stack */
	struct db_query		*queue;		/* head is in flight when BUSY */
};

static void	go_on(struct db *db);
static void	connect_start(struct db *db);

static void
set_state(struct db *db, enum db_state state, double timeout_s)
{
	db->state = state;
	ev_timer_stop(db->ev, &db->timer);
	if (timeout_s < 0)
		return;
	ev_timer_set(&db->timer, timeout_s, 0.);
	ev_timer_start(db->ev, &db->timer);
}

/* Go on from the event loop, outside the caller's stack. */
static void
kick(struct db *db)
{
	if (ev_is_active(&db->kick))
		return;
	ev_timer_set(&db->kick, AT_ONCE, 0.);
	ev_timer_start(db->ev, &db->kick);
}

/* The first line of a libpq message, without its prefix and newline. */
static const char *
one_line(const char *message, char *out, size_t size)
{
	size_t n;

	while (*message == ' ' || *message == '\n')
		message++;
	n = strcspn(message, "\n");
	snprintf(out, size, "%.*s", (int)n, *message == '\0' ? "connection lost" : message);
	return (out);
}

static void
watch(struct db *db, int events)
{
	int fd = PQsocket(db->conn);

	if (ev_is_active(&db->io) && db->io.fd == fd &&
	    (db->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(db->ev, &db->io);
	if (fd == -1)
		return;
	ev_io_set(&db->io, fd, events);
	ev_io_start(db->ev, &db->io);
}

static void
answer(struct db_query *q, const PGresult *result, const char *error, const char *sqlstate)
{
	struct db_answer a = { result, error, sqlstate, q->sent_us, mono_us() };

	DL_DELETE(q->db->queue, q);
	ev_timer_stop(q->db->ev, &q->deadline);
	q->db = NULL;
	q->done(q, &a);
}

static bool
in_flight(const struct db *db, const struct db_query *q)
{
	return (db->state == DB_BUSY && db->queue == q);
}

static void
close_connection(struct db *db)
{
	ev_timer_stop(db->ev, &db->proof);
	ev_io_stop(db->ev, &db->io);
	PQclear(db->result);
	db->result = NULL;
	PQfinish(db->conn);
	db->conn = NULL;
	db->fatal[0] = '\0';
	db->idle_ended = false;
	db->unsendable = false;
}

/* Did the server end this connection because it was idle? */
static bool
was_idle(const struct db *db)
{
	const char *state = PQresultErrorField(db->result, PG_DIAG_SQLSTATE);

	return (db->idle_ended || (state != NULL && strcmp(state, IDLE_SESSION_TIMEOUT) == 0));
}

/* Closed for idleness: opened again when there is something to ask. */
static void
rest(struct db *db)
{
	close_connection(db);
	set_state(db, DB_OFF, NO_TIMEOUT);
	log_debug("database: the server closed an idle connection");
	if (db->queue != NULL)
		kick(db);
}

/* The connection is of no use any more: close it, answer what was in flight, try again later. */
static void
lose(struct db *db, const char *why)
{
	struct db_query	*q, *next;
	struct db_query	*flying = db->queue != NULL && in_flight(db, db->queue) ? db->queue : NULL;
	char		 line[256];
	long		 pause_ms;

	if (was_idle(db)) {
		rest(db);
		return;
	}
	one_line(db->fatal[0] != '\0' ? db->fatal : why, line, sizeof(line));
	close_connection(db);
	if (!db->lost) {
		db->lost = true;
		db->lost_ms = mono_ms();
		board_add(db->slot, BOARD_database_away, 1);
		board_add(db->slot, BOARD_database_losses, 1);
		if (conninfo_advice(line) != NULL)
			log_warnx("database: refused: %s; waiting does not mend that: %s", line, conninfo_advice(line));
		else
			log_warnx("database: lost: %s; trying again until it is back", line);
	} else
		log_debug("database: still away: %s", line);
	if (db->answered && db->retry_ms > RETRY_SHORT_MS)
		db->retry_ms = RETRY_SHORT_MS;
	pause_ms = db->retry_ms / 2 + (long)arc4random_uniform((uint32_t)db->retry_ms / 2 + 1);
	db->retry_ms = db->retry_ms * 2 > RETRY_LAST_MS ? RETRY_LAST_MS : db->retry_ms * 2;
	set_state(db, DB_OFF, (double)pause_ms / 1000);

	if (flying != NULL && !(flying->flags & DB_RETRY))
		answer(flying, NULL, line, "");
	DL_FOREACH_SAFE(db->queue, q, next)
		if (q->flags & DB_FAIL_FAST)
			answer(q, NULL, line, "");
}

static void
connected(struct db *db)
{
	PQsetnonblocking(db->conn, 1);
	set_state(db, DB_IDLE, NO_TIMEOUT);
	db->generation++;
	ev_timer_set(&db->proof, PROOF_S, PROOF_S);
	ev_timer_start(db->ev, &db->proof);
	board_add(db->slot, BOARD_database_connects, 1);
	log_debug("database: connected to %s", PQhost(db->conn) != NULL ? PQhost(db->conn) : "?");
	watch(db, EV_READ);
	go_on(db);
}

static void
connect_poll(struct db *db)
{
	switch (PQconnectPoll(db->conn)) {
	case PGRES_POLLING_READING:
		watch(db, EV_READ);
		break;
	case PGRES_POLLING_WRITING:
		watch(db, EV_WRITE);
		break;
	case PGRES_POLLING_OK:
		connected(db);
		break;
	default:
		lose(db, PQerrorMessage(db->conn));
		break;
	}
}

/*
 * NOTICEs of the server are for people at psql: libpq would print them.  A FATAL
 * comes this way too when the connection is idle, and is why it ends.
 */
static void
on_notice(void *arg, const PGresult *r)
{
	struct db	*db = arg;
	const char	*severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char	*text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	const char	*state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	if (severity == NULL || text == NULL || (strcmp(severity, "FATAL") != 0 && strcmp(severity, "PANIC") != 0))
		return;
	snprintf(db->fatal, sizeof(db->fatal), "%s", text);
	db->idle_ended = state != NULL && strcmp(state, IDLE_SESSION_TIMEOUT) == 0;
}

/* With the addresses that are known by now. */
static void
connect_now(struct db *db)
{
	set_state(db, DB_CONNECTING, CONNECT_TIMEOUT_S);
	if (!hosts_any(db->hosts)) {
		lose(db, hosts_error(db->hosts));
		return;
	}
	db->answered = false;
	db->conn = hosts_connect(db->hosts);
	if (db->conn == NULL || PQstatus(db->conn) == CONNECTION_BAD) {
		lose(db, db->conn == NULL ? "out of memory" : PQerrorMessage(db->conn));
		return;
	}
	PQsetNoticeReceiver(db->conn, on_notice, db);
	watch(db, EV_WRITE);	/* 34.1: begin as if it had returned PGRES_POLLING_WRITING */
}

static void
connect_start(struct db *db)
{
	must(db->conn == NULL && db->state == DB_OFF);
	hosts_ask(db->hosts);
	if (hosts_is_asking(db->hosts))
		set_state(db, DB_RESOLVING, hosts_any(db->hosts) ? RESOLVE_AGAIN_S : RESOLVE_TIMEOUT_S);
	else
		connect_now(db);
}

static void
on_resolved(void *arg)
{
	struct db *db = arg;

	if (db->state == DB_RESOLVING)
		connect_now(db);
}

/* 0; -1: the connection is of no use any more, and is to be lost from the event loop. */
static int
send_head(struct db *db)
{
	struct db_query *q = db->queue;
	int		 unsent;

	set_state(db, DB_BUSY, NO_TIMEOUT);	/* the query has a deadline of its own */
	q->sent_us = mono_us();
	if (!PQsendQueryParams(db->conn, q->sql, q->nparams, NULL, q->params, NULL, NULL, (q->flags & DB_BINARY) != 0) ||
	    (unsent = PQflush(db->conn)) == -1)
		return (-1);
	watch(db, unsent ? EV_READ | EV_WRITE : EV_READ);
	return (0);
}

static void
go_on(struct db *db)
{
	if (db->state == DB_IDLE && db->queue != NULL) {
		if (send_head(db) == -1)
			lose(db, PQerrorMessage(db->conn));
	} else if (db->state == DB_OFF && db->queue != NULL && !ev_is_active(&db->timer))
		connect_start(db);
}

/* The server's error fields as one line, with the hint if there is one. */
static const char *
result_error(const PGresult *r, char *out, size_t size)
{
	const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);

	snprintf(out, size, "%s%s%s%s", text != NULL ? text : PQresultErrorMessage(r),
	    hint != NULL ? " (" : "", hint != NULL ? hint : "", hint != NULL ? ")" : "");
	return (out);
}

/* The server is ready for the next query: answer the one that was in flight. */
static void
query_done(struct db *db)
{
	PGresult	*r = db->result;
	char		 error[512];
	const char	*state;

	bool		 wanted = db->state == DB_BUSY;

	db->result = NULL;
	set_state(db, DB_IDLE, NO_TIMEOUT);
	db->answered = true;
	if (!wanted)
		log_debug("database: the answer to a cancelled query is in");
	else if (r == NULL)
		answer(db->queue, NULL, "no result: out of memory", "-");
	else if (PQresultStatus(r) == PGRES_TUPLES_OK)
		answer(db->queue, r, NULL, "");
	else {
		state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
		answer(db->queue, NULL, result_error(r, error, sizeof(error)), state != NULL ? state : "-");
	}
	PQclear(r);
	go_on(db);
}

/* The connection has ended.  Why: what the server said says more than libpq's "closed the connection". */
static void
lose_by_error(struct db *db)
{
	char error[512];

	lose(db, PQresultErrorField(db->result, PG_DIAG_MESSAGE_PRIMARY) != NULL ?
	    result_error(db->result, error, sizeof(error)) : PQerrorMessage(db->conn));
}

/* The result of the query in flight; one of libpq's own, that the connection is gone, hides no word of the server. */
static void
keep_result(struct db *db, PGresult *r)
{
	if (PQresultErrorField(db->result, PG_DIAG_SQLSTATE) != NULL && PQresultErrorField(r, PG_DIAG_SQLSTATE) == NULL) {
		PQclear(r);
		return;
	}
	PQclear(db->result);
	db->result = r;
}

/*
 * Read what is there.  A query brings one result, then NULL once ReadyForQuery
 * is in; the two may come in different packets, so the result waits in db.
 */
static void
read_results(struct db *db)
{
	PGresult *r;

	while (!PQisBusy(db->conn)) {
		if ((r = PQgetResult(db->conn)) == NULL)
			break;
		keep_result(db, r);
	}
	if (PQstatus(db->conn) == CONNECTION_BAD)
		lose_by_error(db);
	else if (!PQisBusy(db->conn))
		query_done(db);
}

static void
on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct db *db = w->data;

	if (revents & EV_ERROR) {
		lose(db, "no memory to watch the connection");
		return;
	}
	if (db->state == DB_CONNECTING) {
		/*
		 * libpq may have gone on to the next host with another socket of
		 * the same number, of which epoll knows nothing: watch it anew.
		 */
		ev_io_stop(ev, w);
		connect_poll(db);
		return;
	}
	if ((revents & EV_WRITE) && db->state != DB_IDLE) {
		int rc = PQflush(db->conn);

		if (rc == -1) {
			lose(db, PQerrorMessage(db->conn));
			return;
		}
		if (rc == 0)
			watch(db, EV_READ);
	}
	if (!(revents & EV_READ))
		return;
	if (!PQconsumeInput(db->conn)) {
		lose_by_error(db);
		return;
	}
	if (db->state != DB_IDLE)
		read_results(db);
	else {
		/* idle: a notice, a parameter change, or the end */
		PQclear(PQisBusy(db->conn) ? NULL : PQgetResult(db->conn));
		if (PQstatus(db->conn) == CONNECTION_BAD)
			lose(db, PQerrorMessage(db->conn));
	}
}

static void
on_connect_timeout(struct db *db)
{
	hosts_turn(db->hosts);
	lose(db, "no answer to the connection attempt");
}

static void
on_abandoned_timeout(struct db *db)
{
	lose(db, "no answer to a query in time");
}

/* What it means that the timer of a state fires. */
static void (*const timeouts[DB_STATES])(struct db *db) = {
	[DB_OFF]	= connect_start,	/* even without a query: who asked once will ask again */
	[DB_RESOLVING]	= connect_now,
	[DB_CONNECTING]	= on_connect_timeout,
	[DB_ABANDONED]	= on_abandoned_timeout,
};

static void
on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct db *db = w->data;

	(void)ev;
	(void)revents;
	must(timeouts[db->state] != NULL);
	timeouts[db->state](db);
}

static void
on_proof(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct db *db = w->data;

	(void)revents;
	if (db->state != DB_IDLE && !db->answered)
		return;			/* not yet */
	ev_timer_stop(ev, w);
	db->retry_ms = RETRY_FIRST_MS;
	if (db->lost)
		log_info("database: back after %.1f s", (double)(mono_ms() - db->lost_ms) / 1000);
	if (db->lost)
		board_add(db->slot, BOARD_database_away, -1);
	db->lost = false;
}

static void
on_kick(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct db	*db = w->data;
	struct db_query	*q, *next;

	(void)ev;
	(void)revents;
	if (db->unsendable)
		lose(db, PQerrorMessage(db->conn));
	if (db->lost && !db_is_up(db))
		DL_FOREACH_SAFE(db->queue, q, next)
			if (q->flags & DB_FAIL_FAST)
				answer(q, NULL, "the database is away", "");
	go_on(db);
}

static void
on_deadline(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct db_query	*q = w->data;
	struct db	*db = q->db;

	(void)ev;
	(void)revents;
	if (in_flight(db, q)) {
		q->flags &= ~DB_RETRY;
		lose(db, "no answer to a query in time");
	} else
		answer(q, NULL, "the database did not answer in time", "");
}

struct db *
db_new(struct ev_loop *ev, const char *conninfo, struct board_slot *slot)
{
	struct db *db;

	if ((db = calloc(1, sizeof(*db))) == NULL)
		return (NULL);
	if ((db->hosts = hosts_new(ev, conninfo != NULL ? conninfo : "", on_resolved, db)) == NULL) {
		free(db);
		return (NULL);
	}
	db->ev = ev;
	db->slot = slot;
	db->retry_ms = RETRY_FIRST_MS;
	ev_init(&db->io, on_io);
	ev_init(&db->timer, on_timer);
	ev_init(&db->proof, on_proof);
	ev_init(&db->kick, on_kick);
	db->io.data = db->timer.data = db->proof.data = db->kick.data = db;
	return (db);
}

void
db_open(struct db *db)
{
	if (db->state == DB_OFF && !ev_is_active(&db->timer))
		set_state(db, DB_OFF, AT_ONCE);
}

void
db_free(struct db **dbp)
{
	struct db *db = *dbp;

	if (db == NULL)
		return;
	while (db->queue != NULL) {
		struct db_query *q = db->queue;

		DL_DELETE(db->queue, q);
		ev_timer_stop(db->ev, &q->deadline);
		q->db = NULL;
	}
	ev_io_stop(db->ev, &db->io);
	ev_timer_stop(db->ev, &db->timer);
	ev_timer_stop(db->ev, &db->proof);
	ev_timer_stop(db->ev, &db->kick);
	PQclear(db->result);
	PQfinish(db->conn);
	hosts_free(&db->hosts);
	free(db);
	*dbp = NULL;
}

void
db_submit(struct db *db, struct db_query *q)
{
	must(q->db == NULL && q->nparams <= DB_MAX_PARAMS);
	q->db = db;
	q->sent_us = mono_us();
	ev_timer_init(&q->deadline, on_deadline, (double)q->timeout_ms / 1000, 0.);
	q->deadline.data = q;
	ev_now_update(db->ev);
	ev_timer_start(db->ev, &q->deadline);
	DL_APPEND(db->queue, q);
	/* one turn of the event loop less, for what is sent every second */
	if (db->state != DB_IDLE)
		kick(db);
	else if (send_head(db) == -1) {
		db->unsendable = true;
		kick(db);
	}
}

void
db_cancel(struct db_query *q)
{
	if (q->db == NULL)
		return;
	if (in_flight(q->db, q))
		set_state(q->db, DB_ABANDONED, ABANDONED_TIMEOUT_S);
	DL_DELETE(q->db->queue, q);
	ev_timer_stop(q->db->ev, &q->deadline);
	q->db = NULL;
}

size_t
db_waiting(const struct db *db)
{
	const struct db_query	*q;
	size_t			 n;

	DL_COUNT(db->queue, q, n);
	return (n);
}

bool
db_is_waiting(const struct db_query *q)
{
	return (q->db != NULL && !in_flight(q->db, q));
}

bool
db_is_up(const struct db *db)
{
	return (db->conn != NULL && db->state != DB_CONNECTING);
}

unsigned
db_generation(const struct db *db)
{
	return (db->generation);
}
