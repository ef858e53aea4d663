/* SPDX-License-Identifier: ISC */
/*
 * Who comes waits until there is something to show; then viewer.c says what it
 * gets.  Here is when: with each new version, when it was silent for long, when
 * its connection takes bytes again.
 *
 * After each such round settle() tells the board and the owner how things are, and
 * starts the timers that are needed: one for the viewer that was heard of first,
 * one while anybody is behind, one while anybody waits.
 */
#include <stdlib.h>

#include <utlist.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/must.h"
#include "base/opts.h"
#include "loop/fanout.h"
#include "loop/frames.h"
#include "loop/poller.h"
#include "loop/viewer.h"
#include "shared/board.h"
#include "shared/refusal.h"
#include "wire/chunk.h"
#include "wire/http.h"

#define WAIT_FOR_STATE_MS	5000
#define WAIT_LOOK_S		0.1
#define DRAIN_STEP_S		0.05
#define RETURN_MS		2000	/* after the drain: time for the successor to start; as any retry (SPEC 2) */
#define LOOK_S			0.25	/* so late a beat may be; a quarter of shorter heartbeats */

struct fanout {
	struct audience		 audience;
	const struct opts	*opts;
	fanout_idle_cb		*on_idle;
	fanout_gone_cb		*on_gone;
	void			*arg;
	bool			 idle;		/* and it was told */
	bool			 draining;
	bool			 succeeded;	/* a successor serves already */
	double			 look_s;
	ev_timer		 beat_timer;	/* once: when the head of `live` is due */
	ev_timer		 behind_timer;	/* while anybody is behind */
	ev_timer		 wait_timer;	/* while anybody waits */
	ev_timer		 drain_timer;
	int64_t			 drain_start_ms, drain_end_ms;
	size_t			 drain_total;
};

/* --- after each round ------------------------------------------------------- */

static void
tell_board(struct fanout *f)
{
	struct audience		*a = &f->audience;

	if (a->events != 0)
		board_add(a->slot, BOARD_events, a->events);
	if (a->bytes != 0)
		board_add(a->slot, BOARD_sent, a->bytes);
	a->events = a->bytes = 0;
	board_set(a->slot, BOARD_behind, (int64_t)a->nbehind);
	if (a->nbehind == 0)
		board_set(a->slot, BOARD_lag, 0);
	board_set(a->slot, BOARD_connections, (int64_t)a->count);
	board_set(a->slot, BOARD_viewers, (int64_t)a->streams);
}

static void
keep_running(struct fanout *f, ev_timer *w, bool needed)
{
	if (!needed)
		ev_timer_stop(f->audience.ev, w);
	else if (!ev_is_active(w))
		ev_timer_again(f->audience.ev, w);
}

/* Who are due until then are looked at together. */
static void
schedule_beats(struct fanout *f)
{
	const struct viewer	*first = f->audience.live;
	int64_t			 due_ms;

	if (first == NULL || ev_is_active(&f->beat_timer))
		return;			/* set for one who was heard of before: looks again then */
	due_ms = first->heard_ms + f->opts->heartbeat_ms - mono_ms();
	ev_now_update(f->audience.ev);
	ev_timer_set(&f->beat_timer, (double)(due_ms > 0 ? due_ms : 0) / 1000 + f->look_s, 0.);
	ev_timer_start(f->audience.ev, &f->beat_timer);
}

static void
settle(struct fanout *f)
{
	struct audience *a = &f->audience;

	tell_board(f);
	schedule_beats(f);
	keep_running(f, &f->behind_timer, a->behind != NULL);
	keep_running(f, &f->wait_timer, a->waiting != NULL);
	if (a->count == 0 && !f->idle) {
		f->idle = true;
		f->on_idle(f->arg);
	}
}

/* --- who comes -------------------------------------------------------------- */

/*
 * From here on only we can complete this answer.  Answers are begun in the order
 * of their numbers, so that this says nothing about one that has not begun.
 */
static void
begin(const struct viewer *v)
{
	board_set(v->audience->slot, BOARD_begun, (int64_t)v->number);
}

/* Who can't be served for lack of memory is still told so. */
static int
refuse(struct fanout *f, struct viewer *v, enum refusal_reason reason)
{
	const struct chan_handover	*h = v->handover;
	char				 room[REFUSAL_BYTES], cors[HTTP_CORS_BYTES];
	struct buf			 b = BUF_ON(room);
	struct chunk			*p;

	refusal_answer(&b, f->audience.slot, reason, h->sse, h->head, http_cors(cors, f->opts->allow_origin, h->origin));
	begin(v);
	p = chunk_from(v->request_id, &b);
	return (p != NULL ? viewer_answer(v, p, NULL) : viewer_last_words(v, b.data, b.len));
}

static int
answer_once(struct fanout *f, struct viewer *v)
{
	struct chunk	*head, *body;

	if (frames_answer(f->audience.frames, v->set, v->handover, &head, &body) == -1)
		return (-1);
	board_add(f->audience.slot, BOARD_snapshots, 1);
	begin(v);
	return (viewer_answer(v, head, body));
}

/* HEAD of a stream: all that GET's answer begins with, once GET would get one. */
static int
answer_head(struct fanout *f, struct viewer *v)
{
	struct buf	 b = BUF_INIT;
	struct chunk	*p;
	char		 cors[HTTP_CORS_BYTES];

	http_stream_header(&b, http_cors(cors, f->opts->allow_origin, v->handover->origin));
	p = chunk_from(v->request_id, &b);
	buf_fini(&b);
	if (p != NULL)
		begin(v);
	return (viewer_answer(v, p, NULL));
}

static int
serve(struct fanout *f, struct viewer *v)
{
	if (v->gives_way)
		return (refuse(f, v, REFUSAL_CLIENT));
	if (v->handover->kind != CHAN_STREAM)
		return (answer_once(f, v));
	if (v->handover->head)
		return (answer_head(f, v));
	begin(v);
	return (viewer_start(v));
}

static bool
can_serve(const struct fanout *f)
{
	const struct poller *p = f->audience.poller;

	return (poller_has_state(p) && (poller_is_current(p) || poller_is_stale(p)));
}

static bool
is_overdue(const struct viewer *v)
{
	return (mono_ms() - v->handover->accepted_ms >= WAIT_FOR_STATE_MS);
}

/* The last one who has waited for too long; those before it have waited for nothing else.  NULL: nobody has. */
static const struct viewer *
last_overdue(const struct fanout *f)
{
	const struct viewer	*v, *last = NULL;

	DL_FOREACH(f->audience.waiting, v)
		if (is_overdue(v))
			last = v;
	return (last);
}

/* Answer those who wait, in order, as far as that can be now.  Out of memory: later. */
static void
answer_waiting(struct fanout *f)
{
	const struct viewer	*last = NULL;
	struct viewer		*v;
	bool			 all = f->draining || can_serve(f), was_last = false;
	int			 rc;

	if (!all && (last = last_overdue(f)) == NULL)
		return;
	while ((v = f->audience.waiting) != NULL && !was_last) {
		was_last = v == last;
		if (f->draining)
			rc = refuse(f, v, REFUSAL_DRAINING);
		else
			rc = all ? serve(f, v) : refuse(f, v, REFUSAL_DATABASE);
		if (rc == -1 && (!is_overdue(v) || refuse(f, v, REFUSAL_OVERLOAD) == -1))
			break;
	}
}

void
fanout_serve_waiting(struct fanout *f)
{
	answer_waiting(f);
	settle(f);
}

int
fanout_attach(struct fanout *f, const struct chan_handover *h, int fd, uint64_t number)
{
	struct audience *a = &f->audience;

	if (viewer_new(a, h, fd, number) == NULL) {
		fd_close(&fd);
		return (-1);
	}
	f->idle = false;
	tell_board(f);
	/* after the connection shows, and at once: the master counts what was sent and not adopted as streams to come */
	board_add(a->slot, BOARD_adopted, 1);
	answer_waiting(f);
	settle(f);
	return (0);
}

/* --- all viewers ------------------------------------------------------------ */

/* Those who get something go to the end of the list: each is met once. */
static void
push_live(struct fanout *f)
{
	struct viewer *v = f->audience.live, *last = v != NULL ? v->prev : NULL, *next;

	for (; v != NULL; v = next) {
		next = v != last ? v->next : NULL;
		viewer_push(v);
	}
}

void
fanout_publish(struct fanout *f)
{
	struct viewer *v;

	DL_FOREACH(f->audience.behind, v)
		viewer_start_pass(v);
	push_live(f);
	frames_published(f->audience.frames);
	settle(f);
}

void
fanout_freshness(struct fanout *f)
{
	fanout_publish(f);	/* what is owed is derived from the poller's state */
}

static void
on_beat_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct fanout	*f = w->data;
	struct viewer	*v;
	int64_t		 now = mono_ms();

	(void)ev;
	(void)revents;
	while ((v = f->audience.live) != NULL && now - v->heard_ms >= f->opts->heartbeat_ms) {
		v->beat_owed = true;
		viewer_push(v);		/* then it is elsewhere */
	}
	settle(f);
}

/* Nobody who is behind: took a byte for that long, or could be given anything. */
static void
look_after(struct fanout *f, struct viewer *v, int64_t now)
{
	int64_t silent_ms = now - v->heard_ms;

	if (silent_ms >= f->opts->stall_timeout_ms) {
		log_debug("viewer: stalled: took nothing for %lld ms", (long long)silent_ms);
		board_add(f->audience.slot, BOARD_stalls, 1);
		viewer_end(v);
	} else if (v->starved || silent_ms >= f->opts->stall_timeout_ms / 4)
		/* a unix socket is reported writable only when three quarters of it are free; there may be room before */
		viewer_push(v);
}

static void
on_behind_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct fanout	*f = w->data;
	struct viewer	*v, *next;
	int64_t		 now = mono_ms(), lag_ms = 0;

	(void)ev;
	(void)revents;
	DL_FOREACH_SAFE(f->audience.behind, v, next) {
		if (now - v->behind_ms > lag_ms)
			lag_ms = now - v->behind_ms;
		look_after(f, v, now);
	}
	board_set(f->audience.slot, BOARD_lag, lag_ms);
	settle(f);
}

static void
on_wait_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)revents;
	fanout_serve_waiting(w->data);
}

static void
on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct viewer	*v = w->data;
	struct fanout	*f = v->audience->arg;

	(void)ev;
	viewer_take(v, revents);
	settle(f);
}

static void
on_gone(void *arg, uint64_t number)
{
	struct fanout *f = arg;

	f->on_gone(f->arg, number);
}

/* --- the end ---------------------------------------------------------------- */

static struct viewer *
find(struct fanout *f, uint64_t number)
{
	struct audience	*a = &f->audience;
	struct viewer	*lists[] = { a->waiting, a->live, a->behind }, *v = NULL;
	size_t		 i;

	for (i = 0; i < nitems(lists) && v == NULL; i++)
		DL_SEARCH_SCALAR(lists[i], v, number, number);
	return (v);
}

/* One that comes back at once takes nobody's place: it has most, and hears that it is too many. */
void
fanout_give_way(struct fanout *f, uint64_t number)
{
	struct viewer *v = find(f, number);

	if (v == NULL || v->state == VIEWER_ENDING)
		return;			/* or has ended, and the master hears of it */
	if (v->state == VIEWER_WAITING)
		v->gives_way = true;	/* when its turn comes */
	else
		viewer_send_away(v, RETURN_MS);
	settle(f);
}

/* End as many viewers as the time that has passed makes due. */
static void
on_drain(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct fanout	*f = w->data;
	struct audience	*a = &f->audience;
	struct viewer	*v;
	int64_t		 now = mono_ms(), span = f->drain_end_ms - f->drain_start_ms, back_ms;
	size_t		 keep;

	(void)revents;
	back_ms = f->succeeded ? 0 : RETURN_MS + (now < f->drain_end_ms ? f->drain_end_ms - now : 0);
	keep = now >= f->drain_end_ms ? 0 :
	    f->drain_total * (size_t)(f->drain_end_ms - now) / (size_t)(span > 0 ? span : 1);
	while (a->count > keep && (v = a->live != NULL ? a->live : a->behind) != NULL)
		viewer_send_away(v, back_ms);
	if (a->live == NULL && a->behind == NULL)
		ev_timer_stop(ev, w);
	settle(f);
}

void
fanout_succeeded(struct fanout *f)
{
	f->succeeded = true;
}

void
fanout_drain(struct fanout *f, int64_t spread_ms)
{
	f->draining = true;
	answer_waiting(f);
	f->drain_start_ms = mono_ms();
	f->drain_end_ms = f->drain_start_ms + spread_ms;
	f->drain_total = f->audience.count;
	ev_timer_again(f->audience.ev, &f->drain_timer);
	on_drain(f->audience.ev, &f->drain_timer, 0);
}

/* --- life ------------------------------------------------------------------- */

size_t
fanout_count(const struct fanout *f)
{
	return (f->audience.count);
}

static void
init_timer(struct fanout *f, ev_timer *w, void (*cb)(struct ev_loop *, ev_timer *, int), double every_s)
{
	ev_timer_init(w, cb, 0., every_s);
	w->data = f;
}

struct fanout *
fanout_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot,
    const struct poller *poller, uint32_t epoch, fanout_idle_cb *on_idle, fanout_gone_cb *on_gone_cb,
    void *arg)
{
	struct fanout	*f;
	double		 shortest_ms = o->heartbeat_ms < o->stall_timeout_ms ? o->heartbeat_ms : o->stall_timeout_ms;

	must(epoch != 0);
	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	if ((f->audience.frames = frames_new(poller, o, slot, epoch)) == NULL) {
		free(f);
		return (NULL);
	}
	f->audience.ev = ev;
	f->audience.slot = slot;
	f->audience.poller = poller;
	f->audience.on_io = on_io;
	f->audience.on_gone = on_gone;
	f->audience.arg = f;
	f->opts = o;
	f->on_idle = on_idle;
	f->on_gone = on_gone_cb;
	f->arg = arg;
	f->idle = true;
	f->look_s = shortest_ms / 4000 < LOOK_S ? shortest_ms / 4000 : LOOK_S;
	init_timer(f, &f->beat_timer, on_beat_timer, 0.);
	init_timer(f, &f->behind_timer, on_behind_timer, f->look_s);
	init_timer(f, &f->wait_timer, on_wait_timer, WAIT_LOOK_S);
	init_timer(f, &f->drain_timer, on_drain, DRAIN_STEP_S);
	return (f);
}

static void
drop_all(struct viewer *list)
{
	struct viewer *v, *next;

	DL_FOREACH_SAFE(list, v, next)
		viewer_drop(v);
}

void
fanout_free(struct fanout **fp)
{
	struct fanout *f = *fp;

	if (f == NULL)
		return;
	drop_all(f->audience.waiting);
	drop_all(f->audience.live);
	drop_all(f->audience.behind);
	ev_timer_stop(f->audience.ev, &f->beat_timer);
	ev_timer_stop(f->audience.ev, &f->behind_timer);
	ev_timer_stop(f->audience.ev, &f->wait_timer);
	ev_timer_stop(f->audience.ev, &f->drain_timer);
	frames_free(&f->audience.frames);
	free(f);
	*fp = NULL;
}
