/* SPDX-License-Identifier: ISC */
/*
 * db - one PostgreSQL connection that never makes its process wait.
 *
 * Queries wait in a queue, one is in flight; each has a deadline and is answered
 * exactly once: with a result, or with the reason why not.  A connection that
 * is lost or does not answer is given up and opened again with growing,
 * jittered pauses for as long as the process lives.
 * Parameters travel as parameters, in text format, statements unnamed: nothing is left on the
 * server between queries, so PgBouncer may pool by transaction.
 * Runs in: loops and workers, on libev.  Does not block; names are resolved outside
 * (hosts).  Logs: connection lost (once, with the reason) and back (once).
 * Source: PostgreSQL documentation 34.1 (PQconnectPoll), 34.4 (asynchronous commands).
 */
#ifndef DB_H
#define DB_H

#include <ev.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
struct db_query;
struct board_slot;

#define DB_MAX_PARAMS	6

struct db_answer {
	const PGresult	*result;	/* PGRES_TUPLES_OK, or NULL; gone when the callback returns */
	const char	*error;		/* one line; NULL with a result */
	const char	*sqlstate;	/* "": lost, timed out; "-": libpq itself could not (memory) */
	int64_t		 sent_us;	/* monotonic: when the query went out and its answer came */
	int64_t		 received_us;
};

/* Answered: q is the caller's again, and may be submitted again from here. */
typedef void db_done_cb(struct db_query *q, const struct db_answer *a);

enum {
	DB_RETRY = 1,		/* harmless twice: send again when the connection breaks under it */
	DB_FAIL_FAST = 2,	/* while the database is known to be away, fail at once instead of waiting */
	DB_BINARY = 4		/* the result in binary format */
};

struct db_query {
	/* the caller's; to stay valid until done is called */
	const char	*sql;
	const char	*params[DB_MAX_PARAMS];	/* NULL is SQL NULL */
	int		 nparams;
	int		 flags;
	int64_t		 timeout_ms;	/* from submission to answer, waiting for a connection included */
	db_done_cb	*done;
	void		*arg;
	/* ours */
	struct db	*db;		/* NULL: not submitted */
	struct db_query	*prev, *next;
	ev_timer	 deadline;
	int64_t		 sent_us;
};

/* conninfo NULL or "": libpq's environment.  slot counts connects and losses.  NULL: ENOMEM.  Connects with db_open or the first query. */
struct db	*db_new(struct ev_loop *ev, const char *conninfo, struct board_slot *slot);
void		 db_open(struct db *db);	/* connect now, so that the first query need not wait for it */
void		 db_free(struct db **dbp);	/* queued queries are forgotten, not answered */
void		 db_submit(struct db *db, struct db_query *q);	/* done is never called from inside */
void		 db_cancel(struct db_query *q);	/* forget it; NULL db is fine.  In flight: its answer is read and dropped */
bool		 db_is_waiting(const struct db_query *q);	/* submitted, and not with the server yet: db_cancel makes it undone */
bool		 db_is_up(const struct db *db);
size_t		 db_waiting(const struct db *db);	/* queries submitted and not answered */
unsigned	 db_generation(const struct db *db);	/* connections so far: another number is another server session */

#endif
