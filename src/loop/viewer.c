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

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "loop/frames.h"
#include "loop/poller.h"
#include "loop/viewer.h"
#include "shared/board.h"
#include "wire/chunk.h"
#include "wire/event.h"
#include "wire/fcgi.h"

#define RETURN_MS		2000	/* after the drain: time for the successor to start; as any retry (SPEC 2) */
#define RETURN_JITTER_MS	1000

void
viewer_drop(struct viewer *v)
{
	struct fanout *f = v->fanout;

	ev_io_stop(f->ev, &v->io);
	if (v->state == VIEWER_WAITING)
		DL_DELETE(f->waiting, v);
	else
		DL_DELETE(f->live, v);
	chunk_unref(&v->pending);
	if (v->handover == NULL || v->handover->kind == CHAN_STREAM) {
		f->streams--;
		board_set(f->slot, BOARD_viewers, (int64_t)f->streams);
	}
	free(v->handover);
	fd_close(&v->fd);
	f->on_gone(f->arg, v->number);
	free(v);
	f->count--;
	board_set(f->slot, BOARD_connections, (int64_t)f->count);
	if (f->count == 0)
		f->on_idle(f->arg);
}

/* End the request politely if no record is half written; then close. */
void
viewer_end(struct viewer *v)
{
	unsigned char end[FCGI_END_BYTES];

	if (v->pending == NULL || v->offset == 0) {
		fcgi_end(end, v->request_id, FCGI_STATUS_COMPLETE);
		(void)send(v->fd, end, sizeof(end), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	viewer_drop(v);
}

void
viewer_watch(struct viewer *v, int events)
{
	struct ev_loop *ev = v->fanout->ev;

	if (ev_is_active(&v->io) && (v->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(ev, &v->io);
	ev_io_set(&v->io, v->fd, events);
	ev_io_start(ev, &v->io);
}

/* Make p (a reference of ours, or borrowed: then it is referenced here) the viewer's pending chunk. */
static int
viewer_give(struct viewer *v, struct chunk *p, bool owned)
{
	if (p == NULL)
		return (-1);
	if (v->request_id != FRAMES_REQUEST_ID) {
		struct chunk *own = chunk_readdressed(p, v->request_id);

		if (own != NULL)
			own->events = p->events;
		if (owned)
			chunk_unref(&p);
		if (own == NULL)
			return (-1);
		p = own;
	} else if (!owned)
		chunk_ref(p);
	v->pending = p;
	v->offset = 0;
	v->pending_known = v->known;
	return (0);
}

/* Version that last added or removed seats: who is older needs init. */
static uint64_t
layout_version(const struct seat_map *seats)
{
	uint64_t blocks = seat_blocks_version(seats), inside;

	if (seat_block_count(seats) == 0)
		return (blocks);
	inside = seat_block_at(seats, 0)->layout_version;
	return (inside > blocks ? inside : blocks);
}

/* Everything (init), or everything since its version, in one frame. */
static int
next_whole(struct viewer *v, uint64_t now)
{
	struct fanout		*f = v->fanout;
	const struct sse_known	 all = { now, SSE_NO_SEAT, 0 };
	struct chunk		*p;

	if (v->known.version < layout_version(poller_seats(f->poller)))
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
	struct chunk	*part;

	if (v->pass_at == 0)
		v->pass_at = seat_version(poller_seats(f->poller));
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
	if (v->known.version < layout_version(poller_seats(v->fanout->poller)))
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
	uint64_t	 now = seat_version(poller_seats(f->poller));
	bool		 stale = poller_is_stale(f->poller);
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
	chunk_unref(&v->pending);
}

/*
 * Send until nothing is owed or the connection takes no more.  The viewer may
 * be gone afterwards.
 */
void
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

void
viewer_on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct viewer	*v = w->data;
	struct fanout	*f = v->fanout;
	unsigned char	 stray[512];
	ssize_t		 n;

	(void)ev;
	if (revents & EV_ERROR) {	/* not to be watched any more: no memory for it */
		viewer_end(v);
		return;
	}
	if (revents & EV_READ) {
		/* 0 is the web server's close; ABORT_REQUEST means the same; other stray records are ignored */
		n = recv(v->fd, stray, sizeof(stray), MSG_DONTWAIT);
		if (n == 0 || (n > 0 && fcgi_is_abort(stray, (size_t)n))) {
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
	fanout_flush_counters(f);
}

void
viewer_give_last(struct viewer *v, struct chunk *p)
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

/* A new version comes and v is still in the middle of a frame: take it off the frame, into a pass. */
void
viewer_start_pass(struct viewer *v)
{
	struct chunk	*part;
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
	chunk_unref(&v->pending);
	v->pending = part;
	v->offset -= start;
}

/*
 * End a viewer that is to come back to our successor: later than the drain lasts,
 * and spread.
 */
void
viewer_send_away(struct viewer *v, int64_t drain_left_ms)
{
	struct buf	 b = BUF_INIT;
	struct chunk	*p;

	if (v->pending != NULL || v->head_owed) {
		viewer_end(v);
		return;
	}
	event_retry(&b, (unsigned)drain_left_ms + RETURN_MS + arc4random_uniform(RETURN_JITTER_MS + 1));
	p = chunk_last_from(v->request_id, &b);
	buf_fini(&b);
	if (p != NULL)
		(void)send(v->fd, p->bytes, p->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	chunk_unref(&p);
	viewer_drop(v);
}
