/* SPDX-License-Identifier: ISC */
/*
 * What a viewer gets next is derived from its state alone (viewer_next):
 *	the cells of its view, if its version is not the current one: everything
 *	  (init) when it has nothing or the layout changed, else what changed since, then
 *	a beat, if one is owed and nothing else came, then
 *	stale or fresh, if it was told otherwise.
 * So an event can't be lost in a queue: there is none.
 *
 * A viewer that is in the middle of a frame when the next version comes is slow.
 * It keeps only the part of the frame that it is in (4 KiB, shared by all who
 * are stuck there) and goes on in a pass (pass.h).  It gets through however slow
 * it is, and costs a few numbers.  An init is one event and is completed as it is.
 *
 * Out of memory is silence: what could not be made is still owed, and tried
 * again with the next look at those who are behind.
 *
 * The end of a request is an empty STDOUT record and END_REQUEST, then close:
 * closing without them makes web servers log errors and, before the answer was
 * begun, answer 500 by themselves (FastCGI 1.0, 5.5; FASTCGI.md 3.5).
 */
#include <sys/socket.h>
#include <sys/uio.h>

#include <bsd/stdlib.h>
#include <errno.h>
#include <string.h>

#include <utlist.h>

#include "base/buf.h"
#include "base/evloop.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/must.h"
#include "loop/frames.h"
#include "loop/pass.h"
#include "loop/poller.h"
#include "loop/viewer.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "shared/refusal.h"
#include "wire/chunk.h"
#include "wire/event.h"
#include "wire/fcgi.h"

#define RETURN_JITTER_MS	1000

/* --- lists ------------------------------------------------------------------ */

/* The list of viewers in that state.  NULL: there is none. */
static struct viewer **
list_of(struct audience *a, enum viewer_state state)
{
	struct viewer **const lists[] = {
		[VIEWER_NEW]	 = NULL,
		[VIEWER_WAITING] = &a->waiting,
		[VIEWER_LIVE]	 = &a->live,
		[VIEWER_BEHIND]	 = &a->behind,
		[VIEWER_ENDING]	 = &a->behind,
	};

	return (lists[state]);
}

static void
leave_list(struct viewer *v)
{
	struct audience	*a = v->audience;
	struct viewer	**list = list_of(a, v->state);

	if (list != NULL)
		DL_DELETE(*list, v);
	if (list == &a->behind)
		a->nbehind--;
}

/* To the end of the list of that state, which may be its own. */
static void
viewer_move(struct viewer *v, enum viewer_state state)
{
	struct audience	*a = v->audience;
	struct viewer	**list = list_of(a, state);

	leave_list(v);
	if (list == &a->behind && list_of(a, v->state) != list)
		v->behind_ms = mono_ms();
	if (state == VIEWER_LIVE && v->state != VIEWER_LIVE)
		v->heard_ms = mono_ms();
	v->state = state;
	DL_APPEND(*list, v);
	if (list == &a->behind)
		a->nbehind++;
}

/* --- coming and going ------------------------------------------------------- */

static void
watch(struct viewer *v, int events)
{
	struct ev_loop *ev = v->audience->ev;

	if (ev_is_active(&v->io) && (v->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(ev, &v->io);
	ev_io_set(&v->io, v->io.fd, events);
	ev_io_start(ev, &v->io);
}

struct viewer *
viewer_new(struct audience *a, const struct chan_handover *h, int fd, uint64_t number)
{
	struct viewer *v;

	if ((v = calloc(1, sizeof(*v))) == NULL || (v->handover = malloc(sizeof(*h))) == NULL ||
	    (v->set = frames_watch(a->frames, &h->view)) == NULL) {
		if (v != NULL)
			free(v->handover);
		free(v);
		return (NULL);
	}
	*v->handover = *h;
	v->audience = a;
	v->number = number;
	v->request_id = h->request_id;
	v->is_stream = h->kind == CHAN_STREAM;
	v->state = VIEWER_NEW;
	v->heard_ms = mono_ms();
	ev_io_init(&v->io, a->on_io, fd, EV_READ);
	v->io.data = v;
	viewer_move(v, VIEWER_WAITING);
	watch(v, EV_READ);
	a->count++;
	a->streams += v->is_stream;
	return (v);
}

void
viewer_drop(struct viewer *v)
{
	struct audience *a = v->audience;

	ev_io_stop(a->ev, &v->io);
	leave_list(v);
	chunk_unref(&v->pending);
	if (v->state == VIEWER_WAITING)
		free(v->handover);
	else
		chunk_unref(&v->rest);
	frames_unwatch(a->frames, &v->set);
	fd_close(&v->io.fd);
	a->count--;
	a->streams -= v->is_stream;
	a->on_gone(a->arg, v->number);
	free(v->pass);
	free(v);
}

/* End the request politely if no record is half written; then close. */
void
viewer_end(struct viewer *v)
{
	unsigned char end[FCGI_END_BYTES];

	if (v->pending == NULL || v->offset == 0) {
		fcgi_end(end, v->request_id, FCGI_REQUEST_COMPLETE);
		(void)send(v->io.fd, end, sizeof(end), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	viewer_drop(v);
}

/* --- what comes next -------------------------------------------------------- */

static uint64_t
version_now(const struct viewer *v)
{
	return (seat_version(poller_seats(v->audience->poller)));
}

static struct view_known
known_of(const struct viewer *v)
{
	return (v->pass != NULL ? v->pass->known : (struct view_known){ v->version, VIEW_END, 0 });
}

/* It has all cells to that version. */
static void
set_version(struct viewer *v, uint64_t version)
{
	v->version = version;
	free(v->pass);
	v->pass = NULL;
}

/* The same for this viewer's request; takes the reference.  NULL: ENOMEM, or p was. */
static struct chunk *
address(const struct viewer *v, struct chunk *p)
{
	struct chunk *own;

	if (p == NULL || v->request_id == FRAMES_REQUEST_ID)
		return (p);
	own = chunk_readdressed(p, v->request_id);
	chunk_unref(&p);
	return (own);
}

/* Make p the viewer's pending chunk; takes the reference.  1, or -1: ENOMEM, or p was NULL for that reason. */
static int
give(struct viewer *v, struct chunk *p)
{
	if ((p = address(v, p)) == NULL)
		return (-1);
	must(p->len <= UINT32_MAX);
	v->pending = p;
	v->offset = 0;
	v->pending_version = 0;
	v->beat_owed = false;
	return (1);
}

/* The next part of its pass.  0: the pass is through. */
static int
next_part(struct viewer *v)
{
	struct pass	*pass = v->pass;
	struct chunk	*part;
	uint64_t	 next;

	while (pass_wants(pass)) {
		if (frames_part(v->audience->frames, v->set, &pass->known, pass->upto, pass->place, &part, &next) == -1)
			return (-1);
		if (part != NULL && give(v, part) == -1)
			return (-1);
		pass_gave(pass, version_now(v), next);
		if (part != NULL)
			return (1);
	}
	return (0);
}

/* It was slow, and went from what it has to `to`, which is several versions later. */
static void
count_conflation(struct viewer *v, const struct view_known *known, uint64_t to)
{
	if (v->slow && known->version != 0 && to > known->version + 1)
		board_add(v->audience->slot, BOARD_conflations, 1);
	v->slow = false;
}

/* Everything (init), or everything since what it has, in one frame.  0: nothing of it is news. */
static int
next_whole(struct viewer *v)
{
	struct frames		*frames = v->audience->frames;
	struct view_known	 known = known_of(v);
	uint64_t		 now = version_now(v);
	struct chunk		*p;

	if (known.version < frames_layout_version(frames, v->set))
		p = frames_init(frames, v->set);
	else
		p = frames_news(frames, v->set, &known);
	if (p != NULL && p->len == 0) {
		chunk_unref(&p);
		count_conflation(v, &known, known.ahead_version);	/* what it got in its pass was all */
		set_version(v, now);
		return (0);
	}
	if (give(v, p) == -1)
		return (-1);
	v->pending_version = now;
	count_conflation(v, &known, now);
	return (1);
}

static int
next_cells(struct viewer *v)
{
	struct view_known	known = known_of(v);
	int			rc;

	if (v->pass != NULL && known.version < frames_layout_version(v->audience->frames, v->set))
		set_version(v, known.version);	/* what it shows came or went: init instead */
	if (v->pass != NULL && pass_wants(v->pass) && (rc = next_part(v)) != 0)
		return (rc);
	return (known_of(v).version == version_now(v) ? 0 : next_whole(v));
}

/* The end is a piece of its own: a connection that is full takes it later. */
static int
next_of_answer(struct viewer *v)
{
	if (v->rest == NULL && !v->end_owed)
		return (0);
	v->pending = v->rest != NULL ? v->rest : chunk_new_last(v->request_id, NULL, 0);
	if (v->pending == NULL)
		return (-1);
	if (v->rest == NULL)
		v->end_owed = false;
	v->offset = 0;
	v->rest = NULL;
	return (1);
}

/* Choose what comes next.  1: pending is set.  0: nothing is owed.  -1: ENOMEM. */
static int
viewer_next(struct viewer *v)
{
	struct audience	*a = v->audience;
	bool		 stale = poller_is_stale(a->poller);
	int		 rc;

	if (v->state == VIEWER_ENDING)
		return (next_of_answer(v));
	if (known_of(v).version != version_now(v) && (rc = next_cells(v)) != 0)
		return (rc);
	if (v->beat_owed)
		return (give(v, frames_mark(a->frames, FRAMES_BEAT)));
	if (v->told_stale == stale)
		return (0);
	rc = give(v, frames_mark(a->frames, stale ? FRAMES_STALE : FRAMES_FRESH));
	if (rc == 1)
		v->told_stale = stale;
	return (rc);
}

/* --- sending ---------------------------------------------------------------- */

static void
sent_all(struct viewer *v)
{
	v->audience->events += v->pending->events;
	chunk_unref(&v->pending);
	if (v->pending_version != 0)
		set_version(v, v->pending_version);
	v->pending_version = 0;
}

/* It has all that there is. */
static void
caught_up(struct viewer *v, bool heard)
{
	if (v->state == VIEWER_ENDING) {
		viewer_drop(v);		/* the end was the last piece of its answer */
		return;
	}
	if (heard || v->state != VIEWER_LIVE)
		viewer_move(v, VIEWER_LIVE);
	watch(v, EV_READ);
}

/* It is to get more, and can't be given it now. */
static void
fell_behind(struct viewer *v)
{
	if (v->state == VIEWER_LIVE || v->state == VIEWER_WAITING)
		viewer_move(v, VIEWER_BEHIND);
	if (v->starved) {		/* memory does not make a descriptor writable */
		if (!v->audience->starved)
			log_warnx("viewer: out of memory: viewers wait until there is some");
		v->audience->starved = true;
		watch(v, EV_READ);
	} else {
		v->slow = true;
		watch(v, EV_READ | EV_WRITE);
	}
}

/* What send returned: bytes that the connection took; 0: none for now; -1: it is gone. */
static ssize_t
took(struct viewer *v, ssize_t n)
{
	if (n >= 0) {
		v->audience->bytes += n;
		v->heard_ms = mono_ms();
		return (n);
	}
	v->starved = fd_without_memory(errno);
	return (v->starved || errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1);
}

/* So many bytes of pending are out. */
static void
advance(struct viewer *v, size_t n)
{
	v->offset += (uint32_t)n;
	if (v->offset == v->pending->len)
		sent_all(v);
}

static ssize_t
send_some(struct viewer *v)
{
	ssize_t n;

	do {
		n = send(v->io.fd, v->pending->bytes + v->offset, v->pending->len - v->offset,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n == -1 && errno == EINTR);
	return (took(v, n));
}

static void
drop_gone(struct viewer *v)
{
	log_debug("viewer: gone: %s", strerror(errno));
	viewer_drop(v);
}

/*
 * Send until nothing is owed or the connection takes no more.  The viewer may
 * be gone afterwards.
 */
void
viewer_push(struct viewer *v)
{
	struct audience	*a = v->audience;
	bool		 heard = false;
	ssize_t		 n;
	int		 rc;

	v->starved = false;
	for (;;) {
		if (v->pending == NULL && (rc = viewer_next(v)) <= 0) {
			v->starved = rc == -1;
			break;
		}
		if ((n = send_some(v)) == -1) {
			drop_gone(v);
			return;
		}
		if (n == 0)
			break;
		heard = true;
		advance(v, (size_t)n);
	}
	if (v->pending != NULL || v->starved)
		fell_behind(v);
	else {
		a->starved = false;
		caught_up(v, heard);
	}
}

/*
 * The head of a stream, whose reference is taken, and what comes first after it, in one
 * piece: so the web server wakes up once.  When the connection does not even take the
 * head, what comes first is chosen anew after it.  -1: it is gone.
 */
static ssize_t
send_opening(struct viewer *v, struct chunk *head)
{
	struct iovec	 iov[2];
	struct msghdr	 msg = { .msg_iov = iov, .msg_iovlen = nitems(iov) };
	bool		 beat_owed = v->beat_owed;
	ssize_t		 n = 0;

	if (viewer_next(v) == 1) {
		iov[0] = (struct iovec){ head->bytes, head->len };
		iov[1] = (struct iovec){ v->pending->bytes, v->pending->len };
		do {
			n = sendmsg(v->io.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		} while (n == -1 && errno == EINTR);
		n = took(v, n);
	}
	if (n > 0 && (size_t)n >= head->len) {
		advance(v, (size_t)n - head->len);
		chunk_unref(&head);
	} else {
		chunk_unref(&v->pending);
		v->pending = head;
		v->pending_version = 0;
		v->beat_owed = beat_owed;
		v->offset = n > 0 ? (uint32_t)n : 0;
	}
	return (n);
}

int
viewer_start(struct viewer *v)
{
	struct audience		*a = v->audience;
	const struct stream_id	 id = v->handover->resume;
	bool			 known = frames_knows(a->frames, v->set, id);
	struct chunk		*head;

	must(v->state == VIEWER_WAITING);
	if ((head = address(v, frames_head(a->frames, v->handover->origin))) == NULL)
		return (-1);
	if (known) {
		v->version = id.version;
		v->beat_owed = true;	/* unless something comes */
		board_add(a->slot, BOARD_resume_hits, 1);
	} else if (id.epoch != 0 || id.version != 0)
		board_add(a->slot, BOARD_resume_misses, 1);
	free(v->handover);
	v->rest = NULL;
	viewer_move(v, VIEWER_LIVE);
	board_add(a->slot, BOARD_streams, 1);
	if (send_opening(v, head) != -1)
		viewer_push(v);
	else
		drop_gone(v);
	return (0);
}

int
viewer_answer(struct viewer *v, struct chunk *head, struct chunk *body)
{
	must(v->state == VIEWER_WAITING);
	if (head == NULL) {
		chunk_unref(&body);
		return (-1);
	}
	free(v->handover);
	v->rest = body;
	v->end_owed = true;
	v->pending = head;
	v->offset = 0;
	viewer_move(v, VIEWER_ENDING);
	viewer_push(v);
	return (0);
}

int
viewer_last_words(struct viewer *v, const void *cgi, size_t len)
{
	unsigned char	records[FCGI_HEADER_LEN + REFUSAL_BYTES + FCGI_END_BYTES];
	ssize_t		n;

	must(v->state == VIEWER_WAITING && len <= REFUSAL_BYTES);
	len = fcgi_stdout(records, v->request_id, cgi, len);
	fcgi_end(records + len, v->request_id, FCGI_REQUEST_COMPLETE);
	do {
		n = send(v->io.fd, records, len + FCGI_END_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n == -1 && errno == EINTR);
	if (n == -1 && fd_try_later(errno))
		return (-1);
	if (n > 0)
		v->audience->bytes += n;
	viewer_drop(v);
	return (0);
}

void
viewer_take(struct viewer *v, int revents)
{
	unsigned char	 stray[512];
	ssize_t		 n;

	if (evloop_dropped(revents)) {
		if (v->state == VIEWER_WAITING)
			return;			/* it is served all the same, and watched then */
		log_warnx("viewer: can't be watched: ended");
		viewer_end(v);
		return;
	}
	if (revents & EV_READ) {
		/* 0 is the web server's close; ABORT_REQUEST means the same; other stray records are ignored */
		n = recv(v->io.fd, stray, sizeof(stray), MSG_DONTWAIT);
		if (n == 0 || (n > 0 && fcgi_is_abort(stray, (size_t)n))) {
			log_debug("viewer: closed by the web server");
			viewer_end(v);
			return;
		}
		if (n == -1 && !(errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
			viewer_drop(v);		/* also without memory: who waits for it is woken for ever */
			return;
		}
	}
	if (revents & EV_WRITE)
		viewer_push(v);
}

/* A new version comes and v is still in the middle of a frame: take it off the frame, into a pass. */
void
viewer_start_pass(struct viewer *v)
{
	struct chunk	*part;
	size_t		 start;
	uint64_t	 next;

	if (v->pending == NULL || v->pending->nparts < 2 || v->state != VIEWER_BEHIND ||
	    v->request_id != FRAMES_REQUEST_ID)
		return;
	if (v->pass == NULL) {
		if ((v->pass = calloc(1, sizeof(*v->pass))) == NULL)
			return;		/* it goes on with the whole frame */
		v->pass->known.version = v->version;
	}
	if ((part = frames_stuck_part(v->audience->frames, v->pending, v->offset, &start, &next)) == NULL)
		return;
	if (next != VIEW_END) {
		pass_begin(v->pass, v->pending_version, next);
		v->pending_version = 0;
	}
	chunk_unref(&v->pending);
	v->pending = part;
	v->offset -= (uint32_t)start;
}

/*
 * End a viewer that is to come back to our successor, not before he serves, and
 * spread.
 */
void
viewer_send_away(struct viewer *v, int64_t back_ms)
{
	struct buf	 b = BUF_INIT;
	struct chunk	*p;
	ssize_t		 n;

	if (v->pending != NULL && v->state != VIEWER_ENDING && (n = send_some(v)) > 0)
		advance(v, (size_t)n);		/* there may be room by now: it is looked for seldom */
	if (v->pending != NULL) {
		viewer_end(v);
		return;
	}
	event_retry(&b, (unsigned)back_ms + arc4random_uniform(RETURN_JITTER_MS + 1));
	p = chunk_last_from(v->request_id, &b);
	buf_fini(&b);
	if (p == NULL) {
		viewer_end(v);
		return;
	}
	(void)send(v->io.fd, p->bytes, p->len, MSG_DONTWAIT | MSG_NOSIGNAL);
	chunk_unref(&p);
	viewer_drop(v);
}
