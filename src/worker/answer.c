/* SPDX-License-Identifier: ISC */
/*
 * A connection whose answer is through is closed.  If its peer has sent more than was
 * read, or is about to (the rest of a body that is too long, say), closing would reset
 * the answer away; so then it is told that nothing more comes, and read for a moment.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/buf.h"
#include "base/evloop.h"
#include "base/fd.h"
#include "base/log.h"
#include "shared/refusal.h"
#include "wire/chunk.h"
#include "wire/fcgi.h"
#include "worker/answer.h"

#define STALL_S		10.0		/* nothing taken for so long: closed */
#define LINGER_S	1.0
#define PAUSE_S		0.05
#define MAX_BYTES	(16 * 1024 * 1024)	/* of all that wait; then the oldest goes */

struct answer {
	struct answer	*prev, *next;
	struct answers	*answers;
	struct chunk	*chunk;		/* NULL: through, lingering */
	size_t		 offset;
	int		 fd;
	bool		 unread;	/* the request was not read to its end */
	ev_io		 io;
	ev_timer	 deadline;
	ev_timer	 pause;
};

struct answers {
	struct ev_loop	*ev;
	struct board_slot *slot;
	struct answer	*list;		/* the oldest first */
	size_t		 count, bytes;
};

static void
answer_close(struct answer *an)
{
	struct answers *a = an->answers;

	ev_io_stop(a->ev, &an->io);
	ev_timer_stop(a->ev, &an->deadline);
	ev_timer_stop(a->ev, &an->pause);
	if (an->chunk != NULL)
		a->bytes -= an->chunk->len;
	chunk_unref(&an->chunk);
	DL_DELETE(a->list, an);
	a->count--;
	fd_close(&an->fd);
	free(an);
}

/* Bytes taken, 0 when it takes none for now; -1: the peer is gone. */
static ssize_t
send_some(int fd, const void *bytes, size_t len)
{
	ssize_t n = send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return (n == -1 && fd_try_later(errno) ? 0 : n);
}

/* Throw away what the peer sends on.  false: there is no more to come, or nothing for now. */
static bool
has_unread(int fd, bool *ended_r)
{
	char	waste[4096];
	ssize_t	n = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);

	*ended_r = n == 0 || (n == -1 && !fd_try_later(errno));
	return (n > 0);
}

static void
watch(struct answer *an, int events, double seconds)
{
	struct ev_loop *ev = an->answers->ev;

	ev_now_update(ev);
	ev_io_stop(ev, &an->io);
	ev_io_set(&an->io, an->fd, events);
	ev_io_start(ev, &an->io);
	ev_timer_stop(ev, &an->deadline);
	ev_timer_set(&an->deadline, seconds, 0.);
	ev_timer_start(ev, &an->deadline);
}

static void
linger(struct answer *an)
{
	an->answers->bytes -= an->chunk->len;
	chunk_unref(&an->chunk);
	shutdown(an->fd, SHUT_WR);
	watch(an, EV_READ, LINGER_S);
}

/* Writable, and yet nothing was taken: the system has no memory.  Asking again at once would only spin. */
static void
pause_a_moment(struct answer *an)
{
	ev_io_stop(an->answers->ev, &an->io);
	ev_timer_set(&an->pause, PAUSE_S, 0.);
	ev_timer_start(an->answers->ev, &an->pause);
}

static void
on_pause_over(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct answer *an = w->data;

	(void)revents;
	ev_io_start(ev, &an->io);
}

static void
go_on(struct answer *an)
{
	ssize_t	n = send_some(an->fd, an->chunk->bytes + an->offset, an->chunk->len - an->offset);
	bool	ended;

	if (n > 0)
		an->offset += (size_t)n;
	if (n == -1)
		answer_close(an);
	else if (an->offset < an->chunk->len) {
		if (n > 0)
			watch(an, EV_WRITE, STALL_S);
		else
			pause_a_moment(an);
	} else if (an->unread || has_unread(an->fd, &ended))
		linger(an);
	else
		answer_close(an);
}

static void
on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct answer	*an = w->data;
	bool		 ended;

	(void)ev;
	if (evloop_dropped(revents))
		pause_a_moment(an);
	else if (an->chunk != NULL)
		go_on(an);
	else if (!has_unread(an->fd, &ended) && ended)
		answer_close(an);
}

static void
on_deadline(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct answer *an = w->data;

	(void)ev;
	(void)revents;
	if (an->chunk != NULL)
		log_debug("answer: dropped: the web server takes nothing");
	answer_close(an);
}

/* What did not go at once: from offset on, or (all of it gone) only to linger.  Takes fd and chunk. */
static void
answer_wait(struct answers *a, int fd, struct chunk *chunk, size_t offset, bool unread)
{
	struct answer *an;

	if ((an = calloc(1, sizeof(*an))) == NULL) {
		chunk_unref(&chunk);
		fd_close(&fd);
		return;
	}
	an->answers = a;
	an->fd = fd;
	an->chunk = chunk;
	an->offset = offset;
	an->unread = unread;
	ev_init(&an->io, on_io);
	ev_init(&an->deadline, on_deadline);
	ev_init(&an->pause, on_pause_over);
	an->io.data = an->deadline.data = an->pause.data = an;
	DL_APPEND(a->list, an);
	a->count++;
	a->bytes += chunk->len;
	while (a->bytes > MAX_BYTES && a->list != an) {
		log_debug("answer: dropped: too much waits for web servers that take nothing");
		answer_close(a->list);
	}
	if (offset == chunk->len)
		linger(an);
	else
		watch(an, EV_WRITE, STALL_S);
}

static void
send_chunk(struct answers *a, int fd, struct chunk *chunk, bool unread)
{
	ssize_t	n = send_some(fd, chunk->bytes, chunk->len);
	bool	ended;

	if (n >= 0 && ((size_t)n < chunk->len || unread || has_unread(fd, &ended))) {
		answer_wait(a, fd, chunk, (size_t)n, unread);
		return;
	}
	chunk_unref(&chunk);
	fd_close(&fd);
}

/* The one answer that needs no memory: all of it at once, or silence. */
static void
send_out_of_memory(const struct answers *a, int fd, uint16_t request_id, const char *stream_cors)
{
	unsigned char	records[FCGI_HEADER_LEN + REFUSAL_BYTES + FCGI_END_BYTES];
	char		room[REFUSAL_BYTES];
	struct buf	b = BUF_ON(room);
	size_t		len;

	refusal_answer(&b, a->slot, REFUSAL_OVERLOAD, stream_cors != NULL, false, stream_cors != NULL ? stream_cors : "");
	len = fcgi_stdout(records, request_id, b.data, b.len);
	fcgi_end(records + len, request_id, FCGI_REQUEST_COMPLETE);
	(void)send_some(fd, records, len + FCGI_END_BYTES);
	fd_close(&fd);
}

static void
send_cgi(struct answers *a, int fd, uint16_t request_id, const char *stream_cors, struct buf *cgi, bool unread)
{
	struct chunk *chunk = chunk_last_from(request_id, cgi);

	if (chunk != NULL)
		send_chunk(a, fd, chunk, unread);
	else
		send_out_of_memory(a, fd, request_id, stream_cors);
	buf_fini(cgi);
}

void
answers_send(struct answers *a, int fd, uint16_t request_id, const char *stream_cors, struct buf *cgi)
{
	send_cgi(a, fd, request_id, stream_cors, cgi, false);
}

void
answers_send_early(struct answers *a, int fd, uint16_t request_id, const char *stream_cors, struct buf *cgi)
{
	send_cgi(a, fd, request_id, stream_cors, cgi, true);
}

void
answers_end(struct answers *a, int fd, uint16_t request_id, uint8_t protocol_status)
{
	struct chunk *chunk = chunk_new_last(request_id, NULL, 0);

	if (chunk == NULL) {
		fd_close(&fd);
		return;
	}
	fcgi_end(chunk->bytes, request_id, protocol_status);
	send_chunk(a, fd, chunk, true);
}

struct answers *
answers_new(struct ev_loop *ev, struct board_slot *slot)
{
	struct answers *a;

	if ((a = calloc(1, sizeof(*a))) == NULL)
		return (NULL);
	a->ev = ev;
	a->slot = slot;
	return (a);
}

void
answers_free(struct answers **ap)
{
	struct answers *a = *ap;

	if (a == NULL)
		return;
	while (a->list != NULL)
		answer_close(a->list);
	free(a);
	*ap = NULL;
}

size_t
answers_count(const struct answers *a)
{
	return (a->count);
}
