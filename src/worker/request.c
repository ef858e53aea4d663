#include <sys/socket.h>
#include <sys/time.h>

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "wire/http.h"
#include "worker/request.h"

#define IO_TIMEOUT_S	2

static void
set_timeouts(int fd)
{
	struct timeval tv = { IO_TIMEOUT_S, 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* After a complete answer or hand-over nothing of it is left but the struct. */
static void
end(struct request *rq)
{
	db_cancel(&rq->query);
	worker_forget(rq->worker, rq);
	free(rq->text_long);
	free(rq);
}

/*
 * Read the request with libfcgi.  keepConnection makes FCGX_Accept_r take the
 * descriptor it is given instead of accepting one; afterwards we never keep it.
 * FCGX_GetError catches the truncated environment that Accept_r reports as success.
 */
static int
read_request(struct request *rq, int fd)
{
	FCGX_Request	*fx = &rq->fcgx;
	int		 n;

	if (FCGX_InitRequest(fx, -1, 0) != 0) {
		fd_close(&fd);
		return (-1);
	}
	fx->ipcFd = fd;
	fx->keepConnection = 1;
	if (FCGX_Accept_r(fx) < 0)
		return (-1);		/* libfcgi has closed it */
	fx->keepConnection = 0;
	while (rq->body_len < FCGI_MAX_BODY_BYTES &&
	    (n = FCGX_GetStr(rq->body + rq->body_len, (int)(FCGI_MAX_BODY_BYTES - rq->body_len), fx->in)) > 0)
		rq->body_len += (size_t)n;
	while (FCGX_GetChar(fx->in) != EOF)
		;			/* to the end of STDIN, so that the loop finds an empty socket */
	if (FCGX_GetError(fx->in) != 0) {
		FCGX_Detach(fx);
		FCGX_Free(fx, 1);
		return (-1);
	}
	return (0);
}

struct request *
request_new(struct worker *w, int fd)
{
	struct request *rq;

	if ((rq = calloc(1, sizeof(*rq))) == NULL) {
		fd_close(&fd);
		return (NULL);
	}
	rq->worker = w;
	rq->accepted_ms = mono_ms();
	set_timeouts(fd);
	if (read_request(rq, fd) == -1) {
		free(rq);
		return (NULL);
	}
	return (rq);
}

const char *
request_param(const struct request *rq, const char *name)
{
	return (FCGX_GetParam(name, rq->fcgx.envp));
}

void
request_answer_raw(struct request *rq, const char *cgi, size_t len)
{
	FCGX_PutStr(cgi, (int)len, rq->fcgx.out);
	FCGX_Finish_r(&rq->fcgx);
	end(rq);
}

static void
answer_buf(struct request *rq, struct buf *b)
{
	static const char fallback[] = "Status: 503 Service Unavailable\r\nContent-Type: application/json\r\n"
	    "Retry-After: 2\r\n\r\n{\"status\":503,\"message\":\"out of memory\"}";

	if (buf_ok(b))
		request_answer_raw(rq, b->data, b->len);
	else
		request_answer_raw(rq, fallback, sizeof(fallback) - 1);
	buf_fini(b);
}

void
request_answer(struct request *rq, int status, const char *content_type, const char *extra,
    const char *body, size_t len)
{
	struct buf b = BUF_INIT;

	http_answer(&b, status, content_type, extra, body, len, rq->route.head);
	answer_buf(rq, &b);
}

void
request_answer_json(struct request *rq, struct json_object *o)
{
	const char	*text;
	size_t		 len = 0;

	text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	if (text == NULL)
		request_error(rq, 503, "out of memory");
	else
		request_answer(rq, 200, "application/json", "Cache-Control: no-store\r\n", text, len);
	json_object_put(o);
}

void
request_error_with(struct request *rq, int status, const char *message, const char *extra)
{
	struct buf b = BUF_INIT;

	http_error(&b, status, message, extra, rq->route.head);
	answer_buf(rq, &b);
}

void
request_error(struct request *rq, int status, const char *message)
{
	request_error_with(rq, status, message, status == 503 ? "Retry-After: 2\r\n" : NULL);
}

int
request_hand_over(struct request *rq, int (*give)(void *arg, int *fd), void *arg)
{
	if (give(arg, &rq->fcgx.ipcFd) == -1)
		return (-1);
	FCGX_Detach(&rq->fcgx);		/* else FCGX_Free would shut the shared socket down */
	FCGX_Free(&rq->fcgx, 1);
	end(rq);
	return (0);
}

void
request_query(struct request *rq, const char *sql, int nparams, int flags, int64_t timeout_ms, db_done_cb *done)
{
	rq->query.sql = sql;
	rq->query.nparams = nparams;
	rq->query.flags = flags;
	rq->query.timeout_ms = timeout_ms;
	rq->query.done = done;
	rq->query.arg = rq;
	db_submit(worker_db(rq->worker), &rq->query);
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
	if (a->sqlstate[0] == '\0') {
		request_error(rq, 503, "the database is away, please try again shortly");
		return;
	}
	for (i = 0; i < sizeof(database_errors) / sizeof(database_errors[0]); i++)
		if (strcmp(a->sqlstate, database_errors[i].sqlstate) == 0) {
			if (database_errors[i].for_operator)
				log_warnx("request: %s (SQLSTATE %s); `seatcast --check` says more", a->error, a->sqlstate);
			request_error(rq, 503, database_errors[i].message);
			return;
		}
	log_warnx("request: %s (SQLSTATE %s); `seatcast --check` says more", a->error, a->sqlstate);
	request_error(rq, 503, "the database reported an error, please try again shortly");
}
