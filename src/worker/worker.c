/*
 * worker - accepts requests, routes them, answers the short ones itself and
 * hands streams and snapshots over to the loop of their group.
 *
 * Everything here is event-driven: a request that waits for the database waits
 * as a struct, so a frozen database never keeps /healthz or another request from
 * its answer.  A group that is live is looked up on the scoreboard; only for one
 * that is not is the database asked whether the block exists, so a flood of
 * made-up ids costs no process and no new connection.
 */
#include <sys/socket.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/buf.h"
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
#include "wire/chunk.h"
#include "wire/http.h"
#include "wire/stream_id.h"
#include "worker/acceptor.h"
#include "worker/request.h"

#define MASTER_QUEUE		512	/* hand-overs the master may be behind: everybody comes when the sale opens */
#define EXISTS_TIMEOUT_MS	5000	/* how long a stream request waits for the database: SPEC 1 */
#define SQL_EXISTS		"SELECT seatcast.block_exists($1::bigint, $2::bigint)"
#define LIBFCGI_CLOSE_POLL_MS	"20"	/* its default blocks up to 2 s for a peer that lingers */

struct worker {
	const struct inherit	*in;
	struct ev_loop		*ev;
	struct chan		 master;
	struct acceptor		*acceptor;
	struct db		*db;
	struct request		*requests;	/* waiting for the database */
	bool			 draining;	/* streams are refused */
	bool			 overloaded;	/* the last hand-over found no room; logged */
	bool			 stopping;	/* accepts nothing; ends with its last request */
	struct alive		 alive;
	ev_signal		 sigterm, sigint, sigusr1;
};

static const struct {
	enum route_action	 route;
	request_action		*run;
} actions[] = {
	{ ROUTE_STREAM,		action_stream },
	{ ROUTE_SNAPSHOT,	action_snapshot },
	{ ROUTE_AREAS,		action_areas },
	{ ROUTE_SECTIONS,	action_sections },
	{ ROUTE_BLOCKS,		action_blocks },
	{ ROUTE_SEATS,		action_seats },
	{ ROUTE_HOLD,		action_hold },
	{ ROUTE_RELEASE,	action_release },
	{ ROUTE_CONFIRM,	action_confirm },
	{ ROUTE_HEALTHZ,	action_healthz },
	{ ROUTE_READYZ,		action_readyz },
	{ ROUTE_METRICS,	action_metrics },
	{ ROUTE_STATUS,		action_status },
};

/* --- streams and snapshots ------------------------------------------------- */

static void
refuse(struct request *rq, enum refusal_reason reason)
{
	struct buf	b = BUF_INIT;
	bool		sse = rq->route.action == ROUTE_STREAM && http_accepts_sse(request_param(rq, "HTTP_ACCEPT"));

	refusal_answer(&b, rq->worker->in->slot, reason, sse, rq->route.head, "");
	if (buf_ok(&b))
		request_answer_raw(rq, b.data, b.len);
	else
		request_error(rq, 503, "out of memory");
	buf_fini(&b);
}

/* Last-Event-ID from the header, else from the query; none: all 0; what is not an id of ours: epoch 0. */
static struct stream_id
resume_id(const struct request *rq)
{
	const char	*header = request_param(rq, "HTTP_LAST_EVENT_ID");
	char		 value[STREAM_ID_BYTES];
	struct stream_id	 id = { 0, 0 };

	if (header == NULL && route_query(request_param(rq, "QUERY_STRING"), "lastEventId", value, sizeof(value)) == 0)
		header = value;
	if (header != NULL && stream_id_parse(header, &id) == -1)
		id = (struct stream_id){ 0, 1 };
	return (id);
}

static void
fill_handover(const struct request *rq, struct chan_handover *h)
{
	const char *tags = request_param(rq, "HTTP_IF_NONE_MATCH");

	memset(h, 0, sizeof(*h));
	h->key = (struct group_key){ rq->route.ids[0], rq->route.ids[1] };
	h->view.kind = VIEW_BLOCK;
	h->view.nblocks = 1;
	h->view.blocks[0] = h->key.block_id;
	h->accepted_ms = rq->accepted_ms;
	h->resume = resume_id(rq);
	h->request_id = (uint16_t)rq->fcgx.requestId;
	h->kind = rq->route.action == ROUTE_STREAM ? CHAN_STREAM : CHAN_SNAPSHOT;
	h->sse = h->kind == CHAN_STREAM && http_accepts_sse(request_param(rq, "HTTP_ACCEPT"));
	h->head = rq->route.head;
	if (tags != NULL && strlen(tags) < sizeof(h->if_none_match))
		strcpy(h->if_none_match, tags);
}

struct giving {
	struct worker		*worker;
	struct chan_handover	 handover;
};

static int
give(void *arg, int *fd)
{
	struct giving *g = arg;

	return (chan_send(&g->worker->master, CHAN_HANDOVER, &g->handover, fd));
}

/* The block exists: its loop is to answer, through the master. */
static void
hand_over(struct request *rq)
{
	struct worker	*w = rq->worker;
	struct giving	 g = { .worker = w };

	if (rq->route.head && rq->route.action == ROUTE_STREAM) {
		struct buf b = BUF_INIT;

		http_stream_header(&b, NULL);
		if (buf_ok(&b))
			request_answer_raw(rq, b.data, b.len);
		else
			request_error(rq, 503, "out of memory");
		buf_fini(&b);
		return;
	}
	fill_handover(rq, &g.handover);
	if (request_hand_over(rq, give, &g) == -1) {
		if (!w->overloaded)
			log_warn("hand-over: the master does not take it");
		w->overloaded = true;
		refuse(rq, REFUSAL_OVERLOAD);
	} else {
		w->overloaded = false;
		board_add(w->in->slot, BOARD_handovers, 1);
	}
}

static void
on_exists(struct db_query *q, const struct db_answer *a)
{
	struct request *rq = q->arg;

	if (a->result == NULL) {
		if (a->sqlstate[0] != '\0')
			log_warnx("request: %s (SQLSTATE %s); `seatcast --check` says more", a->error, a->sqlstate);
		refuse(rq, REFUSAL_DATABASE);
	} else if (PQntuples(a->result) != 1 || strcmp(PQgetvalue(a->result, 0, 0), "t") != 0)
		request_error(rq, 404, "no such match or block");
	else if (rq->worker->draining)
		refuse(rq, REFUSAL_DRAINING);
	else
		hand_over(rq);
}

void
action_stream(struct request *rq)
{
	struct worker *w = rq->worker;

	if (w->draining)
		refuse(rq, REFUSAL_DRAINING);
	else if (board_group_live(w->in->board, rq->route.ids[0], rq->route.ids[1]))
		hand_over(rq);
	else {
		rq->query.params[0] = rq->text[0];
		rq->query.params[1] = rq->text[1];
		request_query(rq, SQL_EXISTS, 2, DB_RETRY, EXISTS_TIMEOUT_MS, on_exists);
	}
}

void
action_snapshot(struct request *rq)
{
	action_stream(rq);
}

/* The master found no loop for it: answer without libfcgi, whose state is gone. */
static void
answer_refused(struct worker *w, const struct chan_refusal *r, int fd)
{
	struct buf	 b = BUF_INIT;
	struct chunk	*p;
	char		 cors[HTTP_CORS_BYTES];

	refusal_answer(&b, w->in->slot, (enum refusal_reason)r->reason, r->handover.sse, r->handover.head,
	    http_cors(cors, w->in->opts->allow_origin, r->handover.origin));
	if ((p = chunk_last_from(r->handover.request_id, &b)) != NULL)
		(void)send(fd, p->bytes, p->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	chunk_unref(&p);
	buf_fini(&b);
	fd_close(&fd);
}

/* --- requests --------------------------------------------------------------- */

static void
dispatch(struct request *rq)
{
	char		 path[8192];	/* longer than what web servers take */
	const char	*method = request_param(rq, "REQUEST_METHOD");
	char		 allow[64];
	size_t		 i;
	int		 status;

	if (method == NULL || route_path(request_param(rq, "SCRIPT_NAME"), request_param(rq, "PATH_INFO"),
	    request_param(rq, "REQUEST_URI"), path, sizeof(path)) == -1) {
		request_error(rq, 400, "malformed request");
		return;
	}
	status = route_find(method, path, &rq->route);
	if (strcmp(method, "HEAD") == 0)
		rq->route.head = true;
	switch (status) {
	case 400:
		request_error(rq, 400, "malformed id: ids are decimal, 1 to 9223372036854775807");
		return;
	case 404:
		request_error(rq, 404, "no such path");
		return;
	case 405:
		snprintf(allow, sizeof(allow), "Allow: %s\r\n", rq->route.allow);
		request_error_with(rq, 405, "method not allowed", allow);
		return;
	}
	for (i = 0; i < nitems(rq->text); i++)
		snprintf(rq->text[i], sizeof(rq->text[i]), "%lld", (long long)rq->route.ids[i]);
	for (i = 0; i < nitems(actions); i++)
		if (actions[i].route == rq->route.action) {
			actions[i].run(rq);
			return;
		}
	must(!"every route has an action");
}

static void
on_whole(void *arg, int fd)
{
	struct worker	*w = arg;
	struct request	*rq;
	int64_t		 began_us = mono_us();

	if ((rq = request_new(w, fd)) == NULL) {
		board_add(w->in->slot, BOARD_requests_bad, 1);
		return;
	}
	board_add(w->in->slot, BOARD_requests, 1);
	DL_APPEND(w->requests, rq);
	dispatch(rq);
	board_add(w->in->slot, BOARD_busy, mono_us() - began_us);
}

struct db *
worker_db(struct worker *w)
{
	return (w->db);
}

const struct opts *
worker_opts(const struct worker *w)
{
	return (w->in->opts);
}

const struct board *
worker_board(const struct worker *w)
{
	return (w->in->board);
}

static void
end_if_done(struct worker *w)
{
	if (w->stopping && w->requests == NULL && acceptor_count(w->acceptor) == 0)
		ev_break(w->ev, EVBREAK_ALL);
}

static void
stop(struct worker *w)
{
	w->draining = w->stopping = true;
	acceptor_stop(w->acceptor);
	end_if_done(w);
}

void
worker_forget(struct worker *w, struct request *rq)
{
	DL_DELETE(w->requests, rq);
	if (w->in->alone)
		stop(w);	/* the web server starts another, which looks for the master again */
	end_if_done(w);
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
		w->draining = true;
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
on_alive(void *arg)
{
	end_if_done(arg);
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
	setenv("LIBFCGI_OS_CLOSE_POLL_TIMEOUT", LIBFCGI_CLOSE_POLL_MS, 0);
	if (FCGX_Init() != 0)
		fatalx("libfcgi does not start");
}

int
worker_main(const struct inherit *in)
{
	struct worker worker = { .in = in, .draining = in->alone }, *w = &worker;

	log_process("worker");
	title_set("worker");
	w->ev = evloop_new();
	chan_init(&w->master, w->ev, in->channel_fd, CHAN_WORKER, CHAN_MASTER, MASTER_QUEUE,
	    on_message, on_master_gone, w);
	start_libfcgi(w);
	if ((w->db = db_new(w->ev, in->opts->database, in->slot)) == NULL ||
	    (w->acceptor = acceptor_new(w->ev, in->listen_fd, in->slot, on_whole, w)) == NULL)
		fatal("start");
	if (in->opts->join == NULL)
		db_open(w->db);		/* one that joined is one of many: only if it needs to */
	alive_start(&w->alive, w->ev, in->slot, on_alive, w);
	if (in->draining)
		drain(w);
	if (chan_send(&w->master, CHAN_READY, NULL, NULL) == -1)
		fatal("master");

	ev_run(w->ev, 0);

	while (w->requests != NULL)
		request_error(w->requests, 503, "the service is restarting, please try again shortly");
	acceptor_free(&w->acceptor);
	db_free(&w->db);
	chan_fini(&w->master);
	alive_stop(&w->alive, w->ev);
	ev_signal_stop(w->ev, &w->sigterm);
	ev_signal_stop(w->ev, &w->sigint);
	ev_signal_stop(w->ev, &w->sigusr1);
	ev_loop_destroy(w->ev);
	return (0);
}
