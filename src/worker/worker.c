/* SPDX-License-Identifier: ISC */
/*
 * worker - accepts requests, routes them, answers the short ones itself and
 * hands streams and snapshots over to the loop of their group.
 *
 * Everything here is event-driven: a request that waits for the database waits
 * as a struct, so a frozen database never keeps /healthz or another request from
 * its answer.
 * Runs in: worker.  What actions may use is in `service`; they call nothing here.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/confine.h"
#include "base/evloop.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/must.h"
#include "base/opts.h"
#include "base/title.h"
#include "shared/alive.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "shared/inherit.h"
#include "shared/refusal.h"
#include "wire/http.h"
#include "worker/acceptor.h"
#include "worker/answer.h"
#include "worker/request.h"
#include "worker/writes.h"

#define MASTER_QUEUE		4096	/* hand-overs the master may be behind: when a sale opens all who waited for one answer go on at once */

struct worker {
	const struct inherit	*in;
	struct ev_loop		*ev;
	struct chan		 master;
	struct acceptor		*acceptor;
	struct service		 service;
	bool			 stopping;	/* accepts nothing; ends with its last request */
	struct alive		 alive;
	ev_prepare		 done;		/* before each sleep: is there anything left to do? */
	ev_signal		 sigterm, sigint, sigusr1;
};

static const struct {
	enum route_action	 route;
	request_action		*run;
} actions[] = {
	{ ROUTE_STREAM,		action_stream },
	{ ROUTE_SNAPSHOT,	action_stream },
	{ ROUTE_CHANGES,	action_stream },
	{ ROUTE_MATCH_STREAM,	action_stream },
	{ ROUTE_COUNTS,		action_stream },
	{ ROUTE_MATCHES,	action_list },
	{ ROUTE_STADIUM,	action_stadium },
	{ ROUTE_AREAS,		action_list },
	{ ROUTE_SECTIONS,	action_list },
	{ ROUTE_BLOCKS,		action_list },
	{ ROUTE_SEATS,		action_list },
	{ ROUTE_HOLD,		action_allocate },
	{ ROUTE_RELEASE,	action_allocate },
	{ ROUTE_HOLD_SEATS,	action_allocate },
	{ ROUTE_RELEASE_SEATS,	action_allocate },
	{ ROUTE_CONFIRM,	action_allocate },
	{ ROUTE_CHANGED,	action_changed },
	{ ROUTE_HEALTHZ,	action_healthz },
	{ ROUTE_READYZ,		action_readyz },
	{ ROUTE_METRICS,	action_metrics },
	{ ROUTE_STATUS,		action_status },
};

/* The master found no loop for it. */
static void
answer_refused(struct worker *w, const struct chan_refusal *r, int fd)
{
	struct buf	 b = BUF_INIT;
	char		 cors[HTTP_CORS_BYTES];

	http_cors(cors, w->in->opts->allow_origin, r->handover.origin);
	refusal_answer(&b, w->in->slot, (enum refusal_reason)r->reason, r->handover.sse, r->handover.head, cors);
	answers_send(w->service.answers, fd, r->handover.request_id, r->handover.sse ? cors : NULL, &b);
}

/* --- requests --------------------------------------------------------------- */

/* What the web server has mounted us under is not ours to know: "/tickets/api/…" is "/api/…". */
static const char *
below_base(const char *base, const char *path)
{
	size_t len = base != NULL ? strlen(base) : 0;

	while (len > 0 && base[len - 1] == '/')
		len--;
	return (len > 0 && strncmp(path, base, len) == 0 && path[len] == '/' ? path + len : path);
}

/* A browser asks whether a page of another origin may send what it wants to. */
static void
answer_preflight(struct request *rq)
{
	char headers[256];

	snprintf(headers, sizeof(headers), "Access-Control-Allow-Methods: %s\r\n"
	    "Access-Control-Allow-Headers: Accept, Authorization, Cache-Control, Content-Type, If-None-Match, Last-Event-ID\r\n"
	    "Access-Control-Max-Age: 7200\r\n", rq->route.allow);
	request_answer(rq, 204, NULL, headers, NULL, 0);
}

static void
refuse_method(struct request *rq, const char *method)
{
	char allow[64];

	if (strcmp(method, "OPTIONS") == 0 && rq->peer.origin[0] != '\0' && rq->cors[0] != '\0') {
		answer_preflight(rq);
		return;
	}
	snprintf(allow, sizeof(allow), "Allow: %s\r\n", rq->route.allow);
	request_error_with(rq, 405, "method not allowed", allow);
}

static void
act(struct request *rq)
{
	size_t i;

	for (i = 0; i < nitems(rq->text); i++)
		snprintf(rq->text[i], sizeof(rq->text[i]), "%lld", (long long)rq->route.ids[i]);
	for (i = 0; i < nitems(actions) && actions[i].route != rq->route.action; i++)
		;
	must(i < nitems(actions));
	actions[i].run(rq);
}

static void
dispatch(struct request *rq)
{
	const struct opts	*o = rq->service->opts;
	char			 buffer[8192];	/* longer than what web servers take */
	const char		*method = request_param(rq, "REQUEST_METHOD"), *path;
	int			 status;

	if (method == NULL || route_path(request_param(rq, "SCRIPT_NAME"), request_param(rq, "PATH_INFO"),
	    request_param(rq, "REQUEST_URI"), buffer, sizeof(buffer)) == -1) {
		request_error(rq, 400, "malformed request");
		return;
	}
	path = below_base(o->base_path, buffer);
	status = route_find(method, path, &rq->route);
	rq->route.head = strcmp(method, "HEAD") == 0;
	if (strncmp(path, "/api/", 5) == 0)	/* the others are no page's business */
		http_cors(rq->cors, o->allow_origin, rq->peer.origin);
	if (status == 400)
		request_error(rq, 400, "malformed id: ids are decimal, 1 to 9223372036854775807");
	else if (status == 404)
		request_error(rq, 404, "no such path");
	else if (status == 405)
		refuse_method(rq, method);
	else
		act(rq);
}

static void
stop(struct worker *w)
{
	w->service.draining = w->stopping = true;
	acceptor_stop(w->acceptor);
}

static void
on_whole(void *arg, int fd, uint16_t request_id, const void *bytes, size_t len)
{
	struct worker	*w = arg;
	int64_t		 began_us = mono_us();

	request_new(&w->service, fd, request_id, bytes, len, dispatch);
	board_add(w->in->slot, BOARD_busy, mono_us() - began_us);
	if (w->in->alone)
		stop(w);	/* the web server starts another, which looks for the master again */
}

/* A worker that was asked to stop ends with its last request. */
static void
on_prepare(struct ev_loop *ev, ev_prepare *p, int revents)
{
	struct worker *w = p->data;

	(void)revents;
	if (w->stopping && w->service.requests == NULL && acceptor_count(w->acceptor) == 0 &&
	    answers_count(w->service.answers) == 0)
		ev_break(ev, EVBREAK_ALL);
}

/* --- life ------------------------------------------------------------------- */

/*
 * A socket that was given to us is held by somebody who starts our successor:
 * what waits there is for it, and what was accepted already is served.  On our
 * own, whoever comes is told politely to come later (SPEC 1).
 */
static void
drain(struct worker *w)
{
	if (w->in->opts->listen == NULL && w->in->opts->join == NULL)
		acceptor_stop(w->acceptor);
	else
		w->service.draining = true;
}

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	struct worker *w = c->arg;

	switch (type) {
	case CHAN_REFUSE:
		if (fd != -1)
			answer_refused(w, &p->refusal, fd);
		break;
	case CHAN_DRAIN:
		drain(w);
		break;
	case CHAN_STOP:
		stop(w);
		break;
	default:
		break;
	}
}

static void
on_master_gone(struct chan *c, const char *why)
{
	struct worker *w = c->arg;

	log_warnx("master: gone%s%s: ending", why != NULL ? ": " : "", why != NULL ? why : "");
	ev_break(w->ev, EVBREAK_ALL);
}

static void
on_quit(struct ev_loop *ev, ev_signal *s, int revents)
{
	(void)ev;
	(void)revents;
	stop(s->data);
}

static void
ignore_signal(int sig)
{
	(void)sig;
}

/* libfcgi installs handlers of its own where it finds none (FASTCGI.md 2): ours come first. */
static void
start_libfcgi(struct worker *w)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = ignore_signal;
	sa.sa_flags = SA_RESTART;
	sigaction(SIGPIPE, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	evloop_watch_signal(w->ev, &w->sigterm, SIGTERM, on_quit, w);
	if (w->in->opts->join != NULL) {	/* nobody but us is there to understand the others */
		evloop_watch_signal(w->ev, &w->sigint, SIGINT, on_quit, w);
		evloop_watch_signal(w->ev, &w->sigusr1, SIGUSR1, on_quit, w);
	}
	if (FCGX_Init() != 0)
		fatalx("libfcgi does not start");
}

static void
start_service(struct worker *w)
{
	const struct inherit	*in = w->in;
	struct service		*s = &w->service;

	s->opts = in->opts;
	s->board = in->board;
	s->slot = in->slot;
	s->ev = w->ev;
	s->master = &w->master;
	s->draining = in->alone;
	s->replay_fd = -1;
	if ((s->answers = answers_new(w->ev, in->slot)) == NULL || (s->reads = db_new(w->ev, in->opts->database, in->slot)) == NULL ||
	    (s->exists = exists_new(w->ev, s->reads, in->board, in->slot)) == NULL ||
	    (s->writes = writes_new(w->ev, in->opts->database, in->slot)) == NULL)
		fatal("start");
	if (in->opts->join == NULL)
		db_open(s->reads);	/* one that joined is one of many: only if it needs to */
}

int
worker_main(const struct inherit *in)
{
	struct worker worker = { .in = in }, *w = &worker;

	log_process("worker");
	title_set("worker");
	w->ev = evloop_new();
	chan_init(&w->master, w->ev, in->channel_fd, CHAN_WORKER, CHAN_MASTER, MASTER_QUEUE,
	    on_message, on_master_gone, w);
	start_libfcgi(w);
	start_service(w);
	if ((w->acceptor = acceptor_new(w->ev, in->listen_fd, in->slot, w->service.answers, on_whole, w)) == NULL)
		fatal("start");
	alive_start(&w->alive, w->ev, in->slot, NULL, NULL);
	ev_prepare_init(&w->done, on_prepare);
	w->done.data = w;
	ev_prepare_start(w->ev, &w->done);
	if (in->draining)
		drain(w);
	confine(CONFINE_WORKER);
	if (chan_send(&w->master, CHAN_READY, NULL, NULL) == -1)
		fatal("master");

	ev_run(w->ev, 0);

	while (w->service.requests != NULL)
		request_error(w->service.requests, 503, "the service is restarting, please try again shortly");
	acceptor_free(&w->acceptor);
	answers_free(&w->service.answers);
	fd_close(&w->service.replay_fd);
	exists_free(&w->service.exists);
	writes_free(&w->service.writes);
	db_free(&w->service.reads);
	chan_fini(&w->master);
	alive_stop(&w->alive, w->ev);
	ev_prepare_stop(w->ev, &w->done);
	ev_signal_stop(w->ev, &w->sigterm);
	ev_signal_stop(w->ev, &w->sigint);
	ev_signal_stop(w->ev, &w->sigusr1);
	ev_loop_destroy(w->ev);
	return (0);
}
