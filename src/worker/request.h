/*
 * request - one request in a worker: what libfcgi read of it, and its answer.
 *
 * Made from a connection on which a whole request waits, so reading it does not
 * block.  It ends exactly once: by an answer, or by handing its connection over;
 * either frees it.  In between it may wait for one database query at a time.
 * Runs in: worker.  Answering writes through libfcgi: blocks at most for the
 * send timeout, and only when the web server doesn't read.
 * Source: FASTCGI.md 1.1 (the call sequence around FCGX_Accept_r and FCGX_Detach).
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <fcgiapp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/db.h"
#include "wire/fcgi.h"
#include "worker/route.h"

struct board;
struct json_object;
struct opts;
struct worker;

struct request {
	struct request	*prev, *next;		/* the worker's list */
	struct worker	*worker;
	FCGX_Request	 fcgx;
	struct route	 route;
	int64_t		 accepted_ms;		/* monotonic */
	struct db_query	 query;
	unsigned	 tries;			/* of the query, for actions that repeat it */
	int64_t		 user_id;		/* allocation: from the body */
	char		 text[2][24];		/* ids as query parameters */
	char		*text_long;		/* likewise; freed with the request */
	size_t		 body_len;
	char		 body[FCGI_MAX_BODY_BYTES + 1];	/* NUL-terminated */
};

/* Take over fd.  NULL: libfcgi would not read it, or ENOMEM; fd is closed. */
struct request	*request_new(struct worker *w, int fd);

const char	*request_param(const struct request *rq, const char *name);	/* NULL: not sent */

/* Answers; each frees rq.  extra: more header lines, or NULL. */
void	request_answer(struct request *rq, int status, const char *content_type, const char *extra,
	    const char *body, size_t len);
void	request_answer_json(struct request *rq, struct json_object *o);	/* 200; puts o */
void	request_error(struct request *rq, int status, const char *message);
void	request_error_with(struct request *rq, int status, const char *message, const char *extra);
void	request_answer_raw(struct request *rq, const char *cgi, size_t len);	/* header and body as they are */
int	request_hand_over(struct request *rq, int (*give)(void *arg, int *fd), void *arg);	/* -1: give failed, rq is still ours */

/* Ask the worker's database; params are in rq->query already.  done gets rq as q->arg. */
void	request_query(struct request *rq, const char *sql, int nparams, int flags, int64_t timeout_ms,
	    db_done_cb *done);

/*
 * Answer a failed query as SPEC 1 wants it: 404 for SQLSTATE P0002 (message is
 * the port function's), 503 with Retry-After otherwise; logs what is for the operator.
 */
void	request_database_error(struct request *rq, const struct db_answer *a);

/* Actions, one per row of the route table: each ends rq, now or in a callback. */
typedef void request_action(struct request *rq);
request_action	action_stream, action_snapshot;					/* worker.c */
request_action	action_areas, action_sections, action_blocks, action_seats;	/* site.c */
request_action	action_hold, action_release, action_confirm;			/* allocation.c */
request_action	action_healthz, action_readyz, action_metrics, action_status;	/* monitor.c */

/* What actions need of the worker. */
struct db		*worker_db(struct worker *w);
const struct opts	*worker_opts(const struct worker *w);
const struct board	*worker_board(const struct worker *w);
void			 worker_forget(struct worker *w, struct request *rq);	/* it ended */

#endif
