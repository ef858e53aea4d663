/* SPDX-License-Identifier: ISC */
#include <sys/mman.h>

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/mono.h"
#include "shared/board.h"
#include "wire/http.h"
#include "worker/answer.h"
#include "worker/complaint.h"
#include "worker/request.h"

#define LIBFCGI_BYTES	(64 * 1024)	/* its buffers; a parameter of four bytes costs it forty */

/* After a complete answer or hand-over nothing of it is left but the struct. */
static void
end(struct request *rq)
{
	db_cancel(&rq->query);
	exists_forget(&rq->asker);
	FCGX_Free(&rq->fcgx, 0);
	DL_DELETE(rq->service->requests, rq);
	free(rq->state);
	free(rq);
}

/* libfcgi aborts the process when it gets no memory: is there as much as it will ask for? */
static bool
has_memory(size_t len)
{
	void *volatile reserve = malloc(10 * len + LIBFCGI_BYTES);	/* volatile: or the compiler knows better */

	free(reserve);
	return (reserve != NULL);
}

/* The bytes as a file that libfcgi can read: it never has to wait, and can't lose its place in our socket. */
static int
replay(struct service *s, const void *bytes, size_t len)
{
	if (s->replay_fd == -1 && (s->replay_fd = memfd_create("request", MFD_CLOEXEC)) == -1)
		return (-1);
	/* a file that the last request left longer is cut; one that was shorter grows by itself */
	if (len < s->replay_len && ftruncate(s->replay_fd, (off_t)len) == -1)
		return (-1);
	s->replay_len = len;
	if (pwrite(s->replay_fd, bytes, len, 0) != (ssize_t)len || lseek(s->replay_fd, 0, SEEK_SET) == -1)
		return (-1);
	return (0);
}

/*
 * Read the request with libfcgi.  keepConnection makes FCGX_Accept_r take the
 * descriptor it is given instead of accepting one.  FCGX_GetError catches the
 * truncated environment that Accept_r reports as success.
 */
static int
read_request(struct request *rq)
{
	FCGX_Request	*fx = &rq->fcgx;
	int		 n;

	if (FCGX_InitRequest(fx, -1, 0) != 0)
		return (-1);
	fx->ipcFd = rq->service->replay_fd;
	fx->keepConnection = 1;
	if (FCGX_Accept_r(fx) < 0) {
		rq->service->replay_fd = -1;	/* libfcgi has closed it */
		return (-1);
	}
	while (rq->body_len < FCGI_MAX_BODY_BYTES &&
	    (n = FCGX_GetStr(rq->body + rq->body_len, (int)(FCGI_MAX_BODY_BYTES - rq->body_len), fx->in)) > 0)
		rq->body_len += (size_t)n;
	rq->body[rq->body_len] = '\0';
	fx->ipcFd = -1;			/* it stays ours */
	return (FCGX_GetError(fx->in) == 0 ? 0 : -1);
}

static const char *
param(const void *rq, const char *name)
{
	return (request_param(rq, name));
}

void
request_new(struct service *s, int fd, uint16_t id, const void *bytes, size_t len, request_action *dispatch)
{
	struct request	*rq;
	struct buf	 failed = { .failed = true };
	const char	*stream = http_mentions_sse(bytes, len) ? "" : NULL;

	if ((rq = malloc(sizeof(*rq))) == NULL) {
		answers_send(s->answers, fd, id, stream, &failed);
		return;
	}
	memset(rq, 0, offsetof(struct request, body));	/* which is large, and mostly empty */
	rq->body[0] = '\0';
	rq->service = s;
	rq->fd = fd;
	rq->id = id;
	rq->takes_stream = stream != NULL;
	rq->accepted_ms = mono_ms();
	DL_APPEND(s->requests, rq);
	if (!has_memory(len) || replay(s, bytes, len) == -1)
		request_out_of_memory(rq);
	else if (read_request(rq) == -1) {
		board_add(s->slot, BOARD_requests_bad, 1);
		request_error(rq, 400, "malformed request");
	} else {
		board_add(s->slot, BOARD_requests, 1);
		peer_read(&rq->peer, s->opts, param, rq);
		dispatch(rq);
	}
}

const char *
request_param(const struct request *rq, const char *name)
{
	return (FCGX_GetParam(name, rq->fcgx.envp));
}

void
request_answer_raw(struct request *rq, struct buf *cgi)
{
	answers_send(rq->service->answers, fd_take(&rq->fd), rq->id, rq->takes_stream ? rq->cors : NULL, cgi);
	end(rq);
}

void
request_out_of_memory(struct request *rq)
{
	struct buf failed = { .failed = true };

	request_answer_raw(rq, &failed);
}

void
request_answer(struct request *rq, int status, const char *content_type, const char *extra,
    const char *body, size_t len)
{
	struct buf	b = BUF_INIT;
	char		headers[HTTP_CORS_BYTES + 512];

	snprintf(headers, sizeof(headers), "%s%s", extra != NULL ? extra : "", rq->cors);
	http_answer(&b, status, content_type, headers, body, len, rq->route.head);
	request_answer_raw(rq, &b);
}

void
request_answer_json(struct request *rq, struct buf *json)
{
	if (buf_ok(json))
		request_answer(rq, 200, "application/json", "Cache-Control: no-store\r\n", json->data, json->len);
	else
		request_out_of_memory(rq);
	buf_fini(json);
}

void
request_error_with(struct request *rq, int status, const char *message, const char *extra)
{
	struct buf	b = BUF_INIT;
	char		headers[HTTP_CORS_BYTES + 512];

	snprintf(headers, sizeof(headers), "%s%s", extra != NULL ? extra : "", rq->cors);
	http_error(&b, status, message, headers, rq->route.head);
	request_answer_raw(rq, &b);
}

void
request_error(struct request *rq, int status, const char *message)
{
	request_error_with(rq, status, message, status == 503 ? "Retry-After: 2\r\n" : NULL);
}

void
request_refuse(struct request *rq, enum refusal_reason reason)
{
	struct buf	b = BUF_INIT;
	bool		stream = rq->route.action == ROUTE_STREAM || rq->route.action == ROUTE_MATCH_STREAM;

	refusal_answer(&b, rq->service->slot, reason,
	    stream && http_accepts_sse(request_param(rq, "HTTP_ACCEPT")), rq->route.head, rq->cors);
	request_answer_raw(rq, &b);
}

int
request_hand_over(struct request *rq, int (*give)(void *arg, int *fd), void *arg)
{
	if (give(arg, &rq->fd) == -1)
		return (-1);
	end(rq);
	return (0);
}

void
request_query(struct request *rq, struct db *db, const char *sql, int nparams, int flags, int64_t timeout_ms,
    db_done_cb *done)
{
	rq->query.sql = sql;
	rq->query.nparams = nparams;
	rq->query.flags = flags;
	rq->query.timeout_ms = timeout_ms;
	rq->query.done = done;
	rq->query.arg = rq;
	db_submit(db, &rq->query);
}

static const struct {
	const char	*sqlstate, *message;
	int		 for_operator;
} database_errors[] = {
	{ "25006", "the database is read-only here, please try again shortly", 0 },
	{ "55P03", "the seat is busy, please try again", 0 },
	{ "57014", "the database took too long, please try again", 0 },
	{ "40001", "the seat is busy, please try again", 0 },
	{ "40P01", "the seat is busy, please try again", 0 },
	{ "42501", "the database does not permit this", 1 },
};

void
request_database_error(struct request *rq, const struct db_answer *a)
{
	size_t i;

	if (strcmp(a->sqlstate, "P0002") == 0) {
		request_error(rq, 404, a->error);
		return;
	}
	if (strcmp(a->sqlstate, "P0001") == 0 || strncmp(a->sqlstate, "23", 2) == 0) {
		request_error(rq, 409, a->error);	/* a trigger or constraint of the site: waiting does not help */
		return;
	}
	if (a->sqlstate[0] == '\0') {
		request_error(rq, 503, "the database is away, please try again shortly");
		return;
	}
	for (i = 0; i < sizeof(database_errors) / sizeof(database_errors[0]); i++)
		if (strcmp(a->sqlstate, database_errors[i].sqlstate) == 0) {
			if (database_errors[i].for_operator)
				complain(rq->service->board, rq->service->slot, a);
			request_error(rq, 503, database_errors[i].message);
			return;
		}
	complain(rq->service->board, rq->service->slot, a);
	request_error(rq, 503, "the database reported an error, please try again shortly");
}
