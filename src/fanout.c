/*
 * What a viewer gets next is derived from its state alone (viewer_next):
 *	its head (response header and retry), then
 *	the seats, if its version is not the current one: everything (init) when
 *	  it has nothing or the block's layout changed, else what changed since, then
 *	a beat, if one is owed, then
 *	stale or fresh, if it was told otherwise.
 * So an event can't be lost in a queue: there is none.
 *
 * A viewer that is in the middle of a frame when the next version comes is slow.
 * It keeps only the part of the frame that it is in (4 KiB, shared by all who
 * are stuck there) and goes on in a *pass*: part after part of what changed
 * since its version, each with the latest state, by ascending seat id, from the
 * seat where it was.  At the end of the pass it has the version of that frame
 * and its id, and of the seats in the pass even a later one (sse_known: ahead),
 * so that none of them comes twice.  It gets through however slow it is, and
 * costs a few numbers.  An init is one event and is completed as it is.
 *
 * The end of a request is an empty STDOUT record and END_REQUEST, then close:
 * closing without them makes web servers log errors and, before the answer was
 * begun, answer 500 by themselves (FastCGI 1.0, 5.5; FASTCGI.md 3.5).
 */
#include <sys/socket.h>

#include <bsd/stdlib.h>
#include <errno.h>
#include <string.h>

#include <utlist.h>

#include "board.h"
#include "fanout.h"
#include "fcgi.h"
#include "fd.h"
#include "feed.h"
#include "frames.h"
#include "log.h"
#include "mono.h"
#include "must.h"
#include "opts.h"
#include "payload.h"
#include "refuse.h"
#include "sse.h"

#define WAIT_FOR_STATE_MS	5000
#define DRAIN_STEP_S		0.05
#define RETURN_MS		1000	/* after the drain: time for the successor to start */
#define RETURN_JITTER_MS	2000

enum viewer_state {
	VIEWER_WAITING,		/* in `waiting`: adopted, no state to show yet */
	VIEWER_LIVE,		/* in `live`: gets every version */
	VIEWER_ENDING		/* in `live`: what is pending is its last */
};

struct viewer {
	struct viewer		*prev, *next;
	struct fanout		*fanout;
	ev_io			 io;
	struct payload		*pending;	/* being written; NULL: caught up with what it was given */
	size_t			 offset;
	struct sse_known	 known;		/* what it has; version 0: nothing yet */
	struct sse_known	 pending_known;	/* what it will have when pending is through */
	uint64_t		 pass_version;	/* of the frame that the pass completes; 0: in none */
	int64_t			 pass_from;	/* the seat where it began */
	int64_t			 pass_seat;	/* and where it goes on */
	uint64_t		 pass_at;	/* version of the seats when it began; 0: no part yet */
	int64_t			 progress_ms;	/* monotonic: last time it took bytes */
	int64_t			 behind_ms;	/* monotonic: since when something is pending; 0: nothing is */
	int			 fd;
	uint16_t		 request_id;
	uint8_t			 state;		/* enum viewer_state */
	bool			 head_owed;
	bool			 beat_owed;
	bool			 told_stale;
	bool			 slow;		/* had to wait for room since its version */
	struct chan_handover	*handover;	/* WAITING only */
};

struct fanout {
	struct ev_loop		*ev;
	const struct opts	*opts;
	struct board_slot	*slot;
	const struct feed	*feed;
	struct frames		*frames;
	uint32_t		 epoch;
	fanout_idle_cb		*on_idle;
	void			*arg;
	struct viewer		*live, *waiting;
	size_t			 count, streams;
	uint64_t		 number;	/* of the last connection attached */
	int64_t			 events, bytes;	/* not yet on the board */
	ev_timer		 sweep;
	ev_timer		 wait_timer;
	ev_timer		 drain_timer;
	bool			 draining;
	int64_t			 drain_start_ms, drain_end_ms;
	size_t			 drain_total;
};

/* --- one viewer ----------------------------------------------------------- */

static void
viewer_drop(struct viewer *v)
{
	struct fanout *f = v->fanout;

	ev_io_stop(f->ev, &v->io);
	if (v->state == VIEWER_WAITING)
		DL_DELETE(f->waiting, v);
	else
		DL_DELETE(f->live, v);
	payload_unref(&v->pending);
	if (v->handover == NULL || v->handover->kind == CHAN_STREAM) {
		f->streams--;
		board_set(f->slot, BOARD_viewers, (int64_t)f->streams);
	}
	free(v->handover);
	fd_close(&v->fd);
	free(v);
	f->count--;
	board_set(f->slot, BOARD_connections, (int64_t)f->count);
	if (f->count == 0)
		f->on_idle(f->arg);
}

/* End the request politely if no record is half written; then close. */
static void
viewer_end(struct viewer *v)
{
	unsigned char end[FCGI_END_BYTES];

	if (v->pending == NULL || v->offset == 0) {
		fcgi_end(end, v->request_id, FCGI_STATUS_COMPLETE);
		(void)send(v->fd, end, sizeof(end), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	viewer_drop(v);
}

static void
viewer_watch(struct viewer *v, int events)
{
	struct ev_loop *ev = v->fanout->ev;

	if (ev_is_active(&v->io) && (v->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(ev, &v->io);
	ev_io_set(&v->io, v->fd, events);
	ev_io_start(ev, &v->io);
}

/* Make p (a reference of ours, or borrowed: then it is referenced here) the viewer's pending payload. */
static int
viewer_give(struct viewer *v, struct payload *p, bool owned)
{
	if (p == NULL)
		return (-1);
	if (v->request_id != FRAMES_REQUEST_ID) {
		struct payload *own = payload_readdressed(p, v->request_id);

		if (own != NULL)
			own->events = p->events;
		if (owned)
			payload_unref(&p);
		if (own == NULL)
			return (-1);
		p = own;
	} else if (!owned)
		payload_ref(p);
	v->pending = p;
	v->offset = 0;
	v->pending_known = v->known;
	return (0);
}

/* Everything (init), or everything since its version, in one frame. */
static int
next_whole(struct viewer *v, uint64_t now)
{
	struct fanout		*f = v->fanout;
	const struct sse_known	 all = { now, SSE_NO_SEAT, 0 };
	struct payload		*p;

	if (v->known.version < seat_layout_version(feed_seats(f->feed)))
		p = frames_init(f->frames);
	else
		p = frames_news(f->frames, &v->known);
	if (p == NULL || (p->len > 0 && viewer_give(v, p, false) == -1))
		return (-1);
	if (v->slow && v->known.version != 0 && now > v->known.version + 1)
		board_add(f->slot, BOARD_conflations, 1);
	if (p->len > 0)
		v->pending_known = all;
	else
		v->known = all;		/* all of it came in a pass already */
	return (p->len > 0);
}

/* The next part of its pass.  0: the pass is through. */
static int
next_part(struct viewer *v)
{
	struct fanout	*f = v->fanout;
	struct payload	*part;

	if (v->pass_at == 0)
		v->pass_at = seat_version(feed_seats(f->feed));
	if (frames_part(f->frames, &v->known, v->pass_version, v->pass_seat, &part, &v->pass_seat) == -1 ||
	    (part != NULL && viewer_give(v, part, false) == -1))
		return (-1);
	if (v->pass_seat == SSE_NO_SEAT) {
		const struct sse_known reached = { v->pass_version, v->pass_from, v->pass_at };

		if (part != NULL)
			v->pending_known = reached;
		else
			v->known = reached;
		v->pass_version = 0;
		board_add(f->slot, BOARD_conflations, 1);
	}
	return (part != NULL);
}

static int
next_seats(struct viewer *v, uint64_t now)
{
	int rc;

	v->beat_owed = false;
	if (v->known.version < seat_layout_version(feed_seats(v->fanout->feed)))
		v->pass_version = 0;	/* seats came or went: init instead */
	while (v->pass_version != 0)
		if ((rc = next_part(v)) != 0)
			return (rc);
	if (v->known.version == now)
		return (0);
	rc = next_whole(v, now);
	v->slow = false;
	return (rc);
}

/* Choose what comes next.  1: pending is set.  0: nothing is owed.  -1: ENOMEM. */
static int
viewer_next(struct viewer *v)
{
	struct fanout	*f = v->fanout;
	uint64_t	 now = seat_version(feed_seats(f->feed));
	bool		 stale = feed_is_stale(f->feed);
	int		 rc;

	if (v->state != VIEWER_LIVE)
		return (0);
	if (v->head_owed) {
		if (viewer_give(v, frames_head(f->frames), true) == -1)
			return (-1);
		v->head_owed = false;
		return (1);
	}
	if (v->known.version != now && (rc = next_seats(v, now)) != 0)
		return (rc);
	if (v->beat_owed) {
		v->beat_owed = false;
		return (viewer_give(v, frames_mark(f->frames, FRAMES_BEAT), false) == -1 ? -1 : 1);
	}
	if (v->told_stale != stale) {
		v->told_stale = stale;
		return (viewer_give(v, frames_mark(f->frames, stale ? FRAMES_STALE : FRAMES_FRESH), false) == -1 ? -1 : 1);
	}
	return (0);
}

static void
viewer_sent_all(struct viewer *v)
{
	v->fanout->events += v->pending->events;
	v->known = v->pending_known;
	payload_unref(&v->pending);
}

/*
 * Send until nothing is owed or the connection takes no more.  The viewer may
 * be gone afterwards.
 */
static void
viewer_push(struct viewer *v)
{
	struct fanout	*f = v->fanout;
	ssize_t		 n;
	int		 rc;

	for (;;) {
		if (v->pending == NULL && (rc = viewer_next(v)) <= 0) {
			if (rc == -1) {
				log_warnx("viewer: out of memory: closed");
				viewer_end(v);
			} else if (v->state == VIEWER_ENDING)
				viewer_end(v);
			else {
				v->behind_ms = 0;
				viewer_watch(v, EV_READ);
			}
			return;
		}
		n = send(v->fd, v->pending->bytes + v->offset, v->pending->len - v->offset,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n == -1) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				break;
			log_debug("viewer: gone: %s", strerror(errno));
			viewer_drop(v);
			return;
		}
		f->bytes += n;
		v->offset += (size_t)n;
		v->progress_ms = mono_ms();
		if (v->offset == v->pending->len)
			viewer_sent_all(v);
	}
	v->slow = true;
	if (v->behind_ms == 0)
		v->behind_ms = mono_ms();
	viewer_watch(v, EV_READ | EV_WRITE);
}

static void
flush_counters(struct fanout *f)
{
	if (f->events != 0)
		board_add(f->slot, BOARD_events, f->events);
	if (f->bytes != 0)
		board_add(f->slot, BOARD_bytes, f->bytes);
	f->events = f->bytes = 0;
}

static void
on_viewer_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct viewer	*v = w->data;
	struct fanout	*f = v->fanout;
	char		 stray[512];
	ssize_t		 n;

	(void)ev;
	if (revents & EV_READ) {
		/* stray records (padding, ABORT_REQUEST) are read and ignored; 0 is the web server's close */
		n = recv(v->fd, stray, sizeof(stray), MSG_DONTWAIT);
		if (n == 0) {
			log_debug("viewer: closed by the web server");
			viewer_end(v);
			return;
		}
		if (n == -1 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			viewer_drop(v);
			return;
		}
	}
	if (revents & EV_WRITE)
		viewer_push(v);
	flush_counters(f);
}

/* --- attaching ------------------------------------------------------------ */

static void
give_last(struct viewer *v, struct payload *p)
{
	struct fanout *f = v->fanout;

	if (v->state == VIEWER_WAITING) {
		DL_DELETE(f->waiting, v);
		DL_APPEND(f->live, v);
	}
	v->state = VIEWER_ENDING;
	v->pending = p;		/* NULL (ENOMEM): just the end */
	v->offset = 0;
	viewer_push(v);
}

static void
refuse_waiting(struct viewer *v, enum chan_reason reason)
{
	struct payload	*p = NULL;
	struct buf	 b = BUF_INIT;

	refuse_answer(&b, v->fanout->slot, reason, v->handover->sse, v->handover->head);
	if (buf_ok(&b))
		p = payload_new(v->request_id, b.data, b.len);
	buf_fini(&b);
	give_last(v, p);
}

static void
answer_snapshot(struct viewer *v)
{
	struct fanout *f = v->fanout;

	board_add(f->slot, BOARD_snapshots, 1);
	give_last(v, frames_snapshot(f->frames, v->handover));
}

static void
start_stream(struct viewer *v)
{
	struct fanout		*f = v->fanout;
	const struct sse_id	*id = &v->handover->resume;
	uint64_t		 now = seat_version(feed_seats(f->feed));

	if (id->epoch == f->epoch && id->version >= 1 && id->version <= now) {
		v->known.version = id->version;
		v->beat_owed = id->version == now;
		board_add(f->slot, BOARD_resume_hits, 1);
	} else if (id->epoch != 0)
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
	return (feed_has_state(f->feed) && (feed_is_current(f->feed) || feed_is_stale(f->feed)));
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
	flush_counters(f);
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
	v->state = VIEWER_WAITING;
	v->progress_ms = mono_ms();
	ev_io_init(&v->io, on_viewer_io, fd, EV_READ);
	v->io.data = v;
	DL_APPEND(f->waiting, v);
	f->count++;
	board_set(f->slot, BOARD_connections, (int64_t)f->count);
	if (h->kind == CHAN_STREAM) {
		f->streams++;
		board_set(f->slot, BOARD_viewers, (int64_t)f->streams);
	}
	if (f->draining)
		refuse_waiting(v, CHAN_R_DRAINING);
	else if (can_serve(f))
		serve(v);
	else {
		viewer_watch(v, EV_READ);
		if (!ev_is_active(&f->wait_timer))
			ev_timer_again(f->ev, &f->wait_timer);
	}
	flush_counters(f);
	return (0);
}

/* --- all viewers ---------------------------------------------------------- */

/* A new version comes and v is still in the middle of a frame: take it off the frame, into a pass. */
static void
viewer_start_pass(struct viewer *v)
{
	struct payload	*part;
	size_t		 start;
	int64_t		 next;

	if (v->pending->nparts < 2 || v->state != VIEWER_LIVE || v->request_id != FRAMES_REQUEST_ID ||
	    (part = frames_stuck_part(v->fanout->frames, v->pending, v->offset, &start, &next)) == NULL)
		return;
	if (next != SSE_NO_SEAT) {
		v->pass_version = v->pending_known.version;
		v->pass_from = v->pass_seat = next;
		v->pass_at = 0;
		v->pending_known = v->known;
	}
	payload_unref(&v->pending);
	v->pending = part;
	v->offset -= start;
}

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
	flush_counters(f);
}

void
fanout_freshness(struct fanout *f)
{
	fanout_publish(f);	/* what is owed is derived from the feed's state */
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
	board_set(f->slot, BOARD_lag_ms, lag_ms);
	flush_counters(f);
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
			refuse_waiting(v, CHAN_R_DATABASE);
		}
	if (f->waiting == NULL)
		ev_timer_stop(ev, w);
	flush_counters(f);
}

/*
 * End a viewer that is to come back to our successor: later than the drain lasts,
 * and spread.
 */
static void
viewer_send_away(struct viewer *v, int64_t drain_left_ms)
{
	struct buf	 b = BUF_INIT;
	struct payload	*p = NULL;

	if (v->pending != NULL || v->head_owed) {
		viewer_end(v);
		return;
	}
	sse_retry(&b, (unsigned)drain_left_ms + RETURN_MS + arc4random_uniform(RETURN_JITTER_MS + 1));
	if (buf_ok(&b))
		p = payload_new_last(v->request_id, b.data, b.len);
	buf_fini(&b);
	if (p != NULL)
		(void)send(v->fd, p->bytes, p->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	payload_unref(&p);
	viewer_drop(v);
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
	flush_counters(f);
}

void
fanout_drain(struct fanout *f, int64_t spread_ms)
{
	struct viewer *v, *next;

	f->draining = true;
	begin_all(f);
	DL_FOREACH_SAFE(f->waiting, v, next)
		refuse_waiting(v, CHAN_R_DRAINING);
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
    const struct feed *feed, uint32_t epoch, fanout_idle_cb *on_idle, void *arg)
{
	struct fanout	*f;
	double		 sweep_s;

	must(epoch != 0);
	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	if ((f->frames = frames_new(feed, slot, epoch)) == NULL) {
		free(f);
		return (NULL);
	}
	f->ev = ev;
	f->opts = o;
	f->slot = slot;
	f->feed = feed;
	f->epoch = epoch;
	f->on_idle = on_idle;
	f->arg = arg;
	sweep_s = (double)(o->heartbeat_ms < o->stall_timeout_ms ? o->heartbeat_ms : o->stall_timeout_ms) / 4000;
	ev_timer_init(&f->sweep, on_sweep, sweep_s < 1. ? sweep_s : 1., sweep_s < 1. ? sweep_s : 1.);
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
