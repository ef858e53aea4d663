/*
 * Who comes waits until there is something to show; then it lives in `live` and
 * viewer.c says what it gets.
 */
#include <stdlib.h>

#include <utlist.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/must.h"
#include "base/opts.h"
#include "loop/frames.h"
#include "loop/poller.h"
#include "loop/viewer.h"
#include "shared/board.h"
#include "shared/refusal.h"
#include "wire/chunk.h"
#include "wire/http.h"

#define WAIT_FOR_STATE_MS	5000
#define DRAIN_STEP_S		0.05
#define SWEEP_S			0.25	/* so late a beat may be; a quarter of shorter heartbeats */

void
fanout_flush_counters(struct fanout *f)
{
	if (f->events != 0)
		board_add(f->slot, BOARD_events, f->events);
	if (f->bytes != 0)
		board_add(f->slot, BOARD_sent, f->bytes);
	f->events = f->bytes = 0;
}

/* --- who comes -------------------------------------------------------------- */

static void
refuse_waiting(struct viewer *v, enum refusal_reason reason)
{
	struct buf	b = BUF_INIT;
	char		cors[HTTP_CORS_BYTES];

	refusal_answer(&b, v->fanout->slot, reason, v->handover->sse, v->handover->head,
	    http_cors(cors, v->fanout->opts->allow_origin, v->handover->origin));
	viewer_give_last(v, chunk_from(v->request_id, &b));
	buf_fini(&b);
}

static void
answer_snapshot(struct viewer *v)
{
	struct fanout *f = v->fanout;

	board_add(f->slot, BOARD_snapshots, 1);
	viewer_give_last(v, frames_snapshot(f->frames, v->handover));
}

static void
start_stream(struct viewer *v)
{
	struct fanout		*f = v->fanout;
	const struct stream_id	*id = &v->handover->resume;
	uint64_t		 now = seat_version(poller_seats(f->poller));

	if (id->epoch == f->epoch && id->version >= 1 && id->version <= now) {
		v->known.version = id->version;
		v->beat_owed = id->version == now;
		board_add(f->slot, BOARD_resume_hits, 1);
	} else if (id->epoch != 0 || id->version != 0)
		board_add(f->slot, BOARD_resume_misses, 1);
	free(v->handover);
	v->handover = NULL;
	DL_DELETE(f->waiting, v);
	DL_APPEND(f->live, v);
	v->state = VIEWER_LIVE;
	v->head_owed = true;
	board_add(f->slot, BOARD_streams, 1);
	viewer_push(v);
}

/* Before the first byte of an answer: from now on only we can complete it. */
static void
begin_all(struct fanout *f)
{
	board_set(f->slot, BOARD_begun, (int64_t)f->number);
}

static bool
can_serve(const struct fanout *f)
{
	return (poller_has_state(f->poller) && (poller_is_current(f->poller) || poller_is_stale(f->poller)));
}

static void
serve(struct viewer *v)
{
	if (v->handover->kind == CHAN_SNAPSHOT)
		answer_snapshot(v);
	else
		start_stream(v);
}

void
fanout_serve_waiting(struct fanout *f)
{
	struct viewer *v, *next;

	if (!can_serve(f))
		return;
	begin_all(f);
	DL_FOREACH_SAFE(f->waiting, v, next)
		serve(v);
	ev_timer_stop(f->ev, &f->wait_timer);
	fanout_flush_counters(f);
}

int
fanout_attach(struct fanout *f, const struct chan_handover *h, int fd, uint64_t number)
{
	struct viewer *v;

	if ((v = calloc(1, sizeof(*v))) == NULL || (v->handover = malloc(sizeof(*h))) == NULL) {
		free(v);
		fd_close(&fd);
		return (-1);
	}
	f->number = number;
	if (f->draining || can_serve(f))
		begin_all(f);
	*v->handover = *h;
	v->fanout = f;
	v->fd = fd;
	v->request_id = h->request_id;
	v->number = number;
	v->state = VIEWER_WAITING;
	v->progress_ms = mono_ms();
	ev_io_init(&v->io, viewer_on_io, fd, EV_READ);
	v->io.data = v;
	DL_APPEND(f->waiting, v);
	f->count++;
	board_set(f->slot, BOARD_connections, (int64_t)f->count);
	if (h->kind == CHAN_STREAM) {
		f->streams++;
		board_set(f->slot, BOARD_viewers, (int64_t)f->streams);
	}
	/* after the connection shows, and at once: the master counts what was sent and not adopted as streams to come */
	board_add(f->slot, BOARD_adopted, 1);
	if (f->draining)
		refuse_waiting(v, REFUSAL_DRAINING);
	else if (can_serve(f))
		serve(v);
	else {
		viewer_watch(v, EV_READ);
		if (!ev_is_active(&f->wait_timer))
			ev_timer_again(f->ev, &f->wait_timer);
	}
	fanout_flush_counters(f);
	return (0);
}

/* --- all viewers ---------------------------------------------------------- */

void
fanout_publish(struct fanout *f)
{
	struct viewer *v, *next;

	DL_FOREACH_SAFE(f->live, v, next)
		if (v->pending == NULL)
			viewer_push(v);
		else
			viewer_start_pass(v);
	frames_forget_stuck(f->frames);
	fanout_flush_counters(f);
}

void
fanout_freshness(struct fanout *f)
{
	fanout_publish(f);	/* what is owed is derived from the poller's state */
}

static void
on_sweep(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct fanout	*f = w->data;
	struct viewer	*v, *next;
	int64_t		 now = mono_ms(), behind = 0, lag_ms = 0;

	(void)ev;
	(void)revents;
	DL_FOREACH_SAFE(f->live, v, next) {
		int64_t silent_ms = now - v->progress_ms;

		if (v->behind_ms != 0) {
			behind++;
			lag_ms = now - v->behind_ms > lag_ms ? now - v->behind_ms : lag_ms;
		}
		if (v->pending != NULL && silent_ms < f->opts->stall_timeout_ms) {
			/* a unix socket is reported writable only when three quarters of it are free; there may be room before */
			if (silent_ms >= f->opts->stall_timeout_ms / 4)
				viewer_push(v);
		} else if (v->pending != NULL) {
			log_debug("viewer: stalled: took nothing for %lld ms", (long long)silent_ms);
			board_add(f->slot, BOARD_stalls, 1);
			viewer_end(v);
		} else if (silent_ms >= f->opts->heartbeat_ms) {
			v->beat_owed = true;
			viewer_push(v);
		}
	}
	board_set(f->slot, BOARD_behind, behind);
	board_set(f->slot, BOARD_lag, lag_ms);
	fanout_flush_counters(f);
}

static void
on_wait_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct fanout	*f = w->data;
	struct viewer	*v, *next;
	int64_t		 now = mono_ms();

	(void)revents;
	DL_FOREACH_SAFE(f->waiting, v, next)
		if (now - v->handover->accepted_ms >= WAIT_FOR_STATE_MS) {
			begin_all(f);
			refuse_waiting(v, REFUSAL_DATABASE);
		}
	if (f->waiting == NULL)
		ev_timer_stop(ev, w);
	fanout_flush_counters(f);
}

/* End as many viewers as the time that has passed makes due. */
static void
on_drain(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct fanout	*f = w->data;
	int64_t		 now = mono_ms(), span = f->drain_end_ms - f->drain_start_ms;
	size_t		 left, keep;

	(void)revents;
	keep = now >= f->drain_end_ms ? 0 :
	    f->drain_total * (size_t)(f->drain_end_ms - now) / (size_t)(span > 0 ? span : 1);
	for (left = f->count; left > keep && f->live != NULL; left--)
		viewer_send_away(f->live, now < f->drain_end_ms ? f->drain_end_ms - now : 0);
	if (f->live == NULL)
		ev_timer_stop(ev, w);
	fanout_flush_counters(f);
}

void
fanout_drain(struct fanout *f, int64_t spread_ms)
{
	struct viewer *v, *next;

	f->draining = true;
	begin_all(f);
	DL_FOREACH_SAFE(f->waiting, v, next)
		refuse_waiting(v, REFUSAL_DRAINING);
	f->drain_start_ms = mono_ms();
	f->drain_end_ms = f->drain_start_ms + spread_ms;
	f->drain_total = f->count;
	ev_timer_again(f->ev, &f->drain_timer);
	on_drain(f->ev, &f->drain_timer, 0);
}

size_t
fanout_count(const struct fanout *f)
{
	return (f->count);
}

struct fanout *
fanout_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot,
    const struct poller *poller, uint32_t epoch, fanout_idle_cb *on_idle, fanout_gone_cb *on_gone,
    void *arg)
{
	struct fanout	*f;
	double		 sweep_s;

	must(epoch != 0);
	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	if ((f->frames = frames_new(poller, slot, epoch)) == NULL) {
		free(f);
		return (NULL);
	}
	f->ev = ev;
	f->opts = o;
	f->slot = slot;
	f->poller = poller;
	f->epoch = epoch;
	f->on_idle = on_idle;
	f->on_gone = on_gone;
	f->arg = arg;
	sweep_s = (double)(o->heartbeat_ms < o->stall_timeout_ms ? o->heartbeat_ms : o->stall_timeout_ms) / 4000;
	if (sweep_s > SWEEP_S)
		sweep_s = SWEEP_S;
	ev_timer_init(&f->sweep, on_sweep, sweep_s, sweep_s);
	ev_timer_init(&f->wait_timer, on_wait_timer, 0., 0.1);
	ev_timer_init(&f->drain_timer, on_drain, 0., DRAIN_STEP_S);
	f->sweep.data = f->wait_timer.data = f->drain_timer.data = f;
	ev_timer_start(ev, &f->sweep);
	return (f);
}

void
fanout_free(struct fanout **fp)
{
	struct fanout *f = *fp;

	if (f == NULL)
		return;
	f->count++;		/* on_idle is not for this end */
	while (f->live != NULL)
		viewer_drop(f->live);
	while (f->waiting != NULL)
		viewer_drop(f->waiting);
	ev_timer_stop(f->ev, &f->sweep);
	ev_timer_stop(f->ev, &f->wait_timer);
	ev_timer_stop(f->ev, &f->drain_timer);
	frames_free(&f->frames);
	free(f);
	*fp = NULL;
}
