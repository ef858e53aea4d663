/* SPDX-License-Identifier: ISC */
/*
 * request - one request in a worker: what libfcgi read of it, and its answer.
 *
 * libfcgi reads the bytes of a whole request from memory; the connection is ours.  A
 * request ends exactly once: by an answer, or by handing its connection over; either
 * frees it.  In between it may wait for one database query, or for word of whether a
 * block exists.
 * Runs in: worker.  Never blocks.
 * Source: FASTCGI.md 1.1 (the call sequence around FCGX_Accept_r).
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <fcgiapp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/db.h"
#include "shared/refusal.h"
#include "wire/fcgi.h"
#include "wire/http.h"
#include "worker/exists.h"
#include "worker/peer.h"
#include "worker/route.h"
#include "worker/service.h"

struct buf;

struct request {
	struct request	*prev, *next;		/* the service's list */
	struct service	*service;
	FCGX_Request	 fcgx;			/* the parameters */
	int		 fd;			/* the web server's connection */
	uint16_t	 id;			/* FastCGI's */
	struct route	 route;
	struct peer	 peer;
	char		 cors[HTTP_CORS_BYTES];	/* header lines of every answer; "" none */
	bool		 takes_stream;		/* perhaps: then `event: busy` is what it is told without memory */
	int64_t		 accepted_ms;		/* monotonic */
	struct db_query	 query;
	struct exists_asker asker;
	void		*state;			/* an action's own; freed with the request */
	char		 text[ROUTE_MAX_IDS][24];	/* ids as query parameters */
	size_t		 body_len;
	char		 body[FCGI_MAX_BODY_BYTES + 1];	/* NUL-terminated; the last field, see request_new */
};

typedef void request_action(struct request *rq);

/* Take over fd, from which these bytes, a whole request, were read.  It is dispatched, or answered at once. */
void		 request_new(struct service *s, int fd, uint16_t id, const void *bytes, size_t len, request_action *dispatch);

const char	*request_param(const struct request *rq, const char *name);	/* NULL: not sent */

/* Answers; each frees rq.  extra: more header lines, or NULL. */
void	request_answer(struct request *rq, int status, const char *content_type, const char *extra,
	    const char *body, size_t len);
void	request_answer_json(struct request *rq, struct buf *json);	/* 200; empties json, and 503 when it is not ok */
void	request_error(struct request *rq, int status, const char *message);
void	request_error_with(struct request *rq, int status, const char *message, const char *extra);
void	request_refuse(struct request *rq, enum refusal_reason reason);	/* as SPEC 1 wants it for a stream */
void	request_out_of_memory(struct request *rq);
void	request_answer_raw(struct request *rq, struct buf *cgi);	/* header and body as they are; empties cgi */
int	request_hand_over(struct request *rq, int (*give)(void *arg, int *fd), void *arg);	/* -1: give failed, rq is still ours */

/* Ask the database; params are in rq->query already.  done gets rq as q->arg. */
void	request_query(struct request *rq, struct db *db, const char *sql, int nparams, int flags, int64_t timeout_ms,
	    db_done_cb *done);

/*
 * Answer a failed query as SPEC 1 wants it: 404 for SQLSTATE P0002 and 409 for what
 * a site's own rules refuse (P0001, class 23), both in the database's words; 503 with
 * Retry-After otherwise.  Logs what is for the operator.
 */
void	request_database_error(struct request *rq, const struct db_answer *a);

/* What the routes lead to: each answers rq, now or later. */
request_action	action_stream, action_list, action_stadium, action_allocate, action_changed,
		action_healthz, action_readyz, action_metrics, action_status;

#endif
