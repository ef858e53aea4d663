/* SPDX-License-Identifier: ISC */
/*
 * The rule for descriptors: from a successful chan_send the channel owns it and
 * closes our copy as soon as sendmsg succeeded (the kernel holds its own
 * reference in flight) or the channel ends; what is shared is copied only if it has to wait.  A received descriptor that the
 * table does not allow is closed before the error is reported.
 * ENOMEM and ENOBUFS are "later" in both directions: a healthy peer is not lost
 * for a bad minute of the machine.
 * MSG_TRUNC is an error of the peer: messages are never larger than union
 * chan_payload.  MSG_CTRUNC is ours: out of descriptors, the kernel has dropped
 * the one that came (unix(7)); the message is delivered with fd -1, so that
 * counts stay right and only that one request is lost.
 */
#include <sys/socket.h>
#include <sys/uio.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "base/evloop.h"
#include "base/fd.h"
#include "base/must.h"
#include "shared/chan.h"
#include "shared/refusal.h"

#define REST_S		0.02
#define READ_BURST	8	/* messages in a row; then others have their turn */

struct chan_header {
	uint32_t	type;
	uint32_t	len;
};

struct chan_queued {
	struct chan_queued	*prev, *next;
	struct chan_header	 header;
	int			 fd;
	unsigned char		 payload[];
};

static const struct {
	int		 from, to, fd;
	size_t		 len;
} messages[] = {
#define CHAN_MSG(NAME, from, to, payload, fd, text)	{ from, to, fd, sizeof(payload) },
#include "shared/chan_tbl.h"
#undef CHAN_MSG
};

/* A text that ends within its field. */
#define is_text(field)	(memchr((field), '\0', sizeof(field)) != NULL)

static bool
is_view(const struct view *v, const struct group_key *key)
{
	size_t i;

	if (v->kind > VIEW_MATCH || v->nblocks > VIEW_MAX_BLOCKS)
		return (false);
	for (i = 0; i < VIEW_MAX_BLOCKS; i++)
		if (i < v->nblocks ? v->blocks[i] <= (i == 0 ? 0 : v->blocks[i - 1]) : v->blocks[i] != 0)
			return (false);
	if (v->kind == VIEW_BLOCK)
		return (v->nblocks == 1 && (key->block_id == v->blocks[0] || key->block_id == GROUP_WHOLE_MATCH));
	return (key->block_id == GROUP_WHOLE_MATCH);
}

/* What a worker makes of a browser's request, whoever sends it. */
static bool
is_handover(const struct chan_handover *h)
{
	return (h->key.match_id >= 1 && h->key.block_id >= 0 && is_view(&h->view, &h->key) && h->kind <= CHAN_CHANGES &&
	    h->request_id != 0 && h->sse <= 1 && h->head <= 1 && is_text(h->if_none_match) && is_text(h->origin) &&
	    is_text(h->client));
}

/* Is each field of the payload one that a good peer can send? */
static bool
is_sound(enum chan_type type, const union chan_payload *p)
{
	switch (type) {
	case CHAN_HANDOVER:
	case CHAN_ADOPT:
		return (is_handover(&p->handover));
	case CHAN_REFUSE:
		return (is_handover(&p->refusal.handover) && p->refusal.reason < REFUSAL__MAX);
	case CHAN_GONE:
		return (p->gone.n <= CHAN_GONE_MAX);
	case CHAN_WROTE:
		return (p->wrote.key.match_id >= 1 && p->wrote.key.block_id >= 0);
	case CHAN_DRAIN:
		return (p->drain.spread_ms >= 0);
	default:
		return (true);
	}
}

int
chan_pair(int fds_r[2])
{
	return (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds_r));
}

static bool
is_later(int error)
{
	return (error == EAGAIN || error == EWOULDBLOCK || fd_without_memory(error));
}

/* One sendmsg.  0 sent, -1 errno; fd (-1: none) stays the caller's. */
static int
send_now(struct chan *c, const struct chan_header *header, const void *payload, int fd)
{
	union {
		struct cmsghdr	align;
		char		bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec	 iov[2];
	struct msghdr	 msg;
	ssize_t		 n;

	memset(&msg, 0, sizeof(msg));
	/* sendmsg only reads: the casts away from const are the interface's */
	iov[0].iov_base = (void *)(uintptr_t)header;
	iov[0].iov_len = sizeof(*header);
	iov[1].iov_base = (void *)(uintptr_t)payload;
	iov[1].iov_len = header->len;
	msg.msg_iov = iov;
	msg.msg_iovlen = 2;
	if (fd != -1) {
		struct cmsghdr *cm;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	}
	do {
		n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n == -1 && errno == EINTR);
	return (n == -1 ? -1 : 0);
}

/* Room in the queue for one more.  NULL: errno. */
static struct chan_queued *
queue_room(const struct chan *c, size_t len)
{
	if (c->queued < c->max_queued)
		return (calloc(1, sizeof(struct chan_queued) + len));
	errno = ENOBUFS;
	return (NULL);
}

/* 1: sent.  0: it waits, and the channel has the descriptor, or a copy of it.  -1: errno. */
static int
send_or_queue(struct chan *c, enum chan_type type, const void *payload, int fd, bool copy)
{
	static const struct chan_nothing nothing;
	struct chan_header	 header = { type, 0 };
	struct chan_queued	*q;

	must(type < CHAN__MAX);
	must((messages[type].from & c->self) && (messages[type].to & c->peer));
	must((fd != -1) == (messages[type].fd != 0));
	if (payload == NULL) {
		must(messages[type].len == sizeof(nothing));
		payload = &nothing;
	}
	header.len = (uint32_t)messages[type].len;
	if (c->fd == -1) {
		errno = EPIPE;
		return (-1);
	}
	if (!is_sound(type, payload)) {		/* the peer would close the channel */
		errno = EINVAL;
		return (-1);
	}
	if (c->queued == 0) {
		if (send_now(c, &header, payload, fd) == 0)
			return (1);
		if (!is_later(errno))
			return (-1);
	}
	if ((q = queue_room(c, header.len)) == NULL)
		return (-1);
	if (copy && (fd = fd_dup(fd)) == -1) {
		free(q);
		return (-1);
	}
	q->header = header;
	memcpy(q->payload, payload, header.len);
	q->fd = fd;
	DL_APPEND(c->queue, q);
	c->queued++;
	ev_io_start(c->ev, &c->out);
	return (0);
}

int
chan_send(struct chan *c, enum chan_type type, const void *payload, int *fd)
{
	int rc = send_or_queue(c, type, payload, fd != NULL ? *fd : -1, false);

	if (rc == 1 && fd != NULL)
		fd_close(fd);
	else if (rc == 0 && fd != NULL)
		*fd = -1;
	return (rc == -1 ? -1 : 0);
}

int
chan_send_shared(struct chan *c, enum chan_type type, const void *payload, int fd)
{
	return (send_or_queue(c, type, payload, fd, true) == -1 ? -1 : 0);
}

static void
drop_first(struct chan *c)
{
	struct chan_queued *q = c->queue;

	DL_DELETE(c->queue, q);
	c->queued--;
	fd_close(&q->fd);
	free(q);
}

/* Without memory there is nothing to do but wait, and asking at once would do nothing else. */
static void
take_rest(struct chan *c)
{
	ev_io_stop(c->ev, &c->in);
	ev_io_stop(c->ev, &c->out);
	ev_now_update(c->ev);
	ev_timer_again(c->ev, &c->rest);
}

static void
on_rest_over(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct chan *c = w->data;

	(void)revents;
	ev_timer_stop(ev, w);
	ev_io_start(ev, &c->in);
	if (c->queue != NULL)
		ev_io_start(ev, &c->out);
}

static void
on_writable(struct ev_loop *ev, ev_io *w, int revents)
{
	struct chan *c = w->data;

	if (evloop_dropped(revents)) {
		take_rest(c);
		return;
	}
	while (c->queue != NULL) {
		if (send_now(c, &c->queue->header, c->queue->payload, c->queue->fd) == -1) {
			if (fd_without_memory(errno))
				take_rest(c);
			if (is_later(errno))
				return;
			break;		/* the peer is gone: the reading side will say so */
		}
		drop_first(c);
	}
	ev_io_stop(ev, w);
}

/* Descriptors in a control message: the first to *fd_r, any other is closed.  Returns their number. */
static int
take_fds(struct msghdr *msg, int *fd_r)
{
	struct cmsghdr	*cm;
	int		 count = 0;

	*fd_r = -1;
	for (cm = CMSG_FIRSTHDR(msg); cm != NULL; cm = CMSG_NXTHDR(msg, cm)) {
		size_t	i, n;

		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cm) + i * sizeof(int), sizeof(fd));
			if (count++ == 0)
				*fd_r = fd;
			else
				fd_close(&fd);
		}
	}
	return (count);
}

/* NULL: as the table says.  Else what is wrong. */
static const char *
check_message(const struct chan *c, const struct chan_header *h, size_t bytes, int flags, int fds)
{
	if (flags & MSG_TRUNC)
		return ("message of the wrong length");
	if (bytes < sizeof(*h) || h->type >= CHAN__MAX)
		return ("unknown message");
	if (!(messages[h->type].from & c->peer) || !(messages[h->type].to & c->self))
		return ("message from the wrong process");
	if (h->len != messages[h->type].len || bytes != sizeof(*h) + h->len)
		return ("message of the wrong length");
	if (!(flags & MSG_CTRUNC) && fds != messages[h->type].fd)
		return ("message with the wrong number of descriptors");
	return (NULL);
}

static void
closed(struct chan *c, const char *why)
{
	ev_io_stop(c->ev, &c->in);
	ev_io_stop(c->ev, &c->out);
	ev_timer_stop(c->ev, &c->rest);
	c->on_closed(c, why);
}

/* One message to its callback.  false: none is there for now, or the channel is closed. */
static bool
read_one(struct chan *c)
{
	struct chan_header	 header;
	union chan_payload	 payload;
	union {
		struct cmsghdr	align;
		char		bytes[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec		 iov[2] = { { &header, sizeof(header) }, { &payload, sizeof(payload) } };
	struct msghdr		 msg;
	const char		*wrong;
	ssize_t			 n;
	int			 fd, fds;

	memset(&msg, 0, sizeof(msg));
	memset(&header, 0, sizeof(header));
	msg.msg_iov = iov;
	msg.msg_iovlen = 2;
	msg.msg_control = control.bytes;
	msg.msg_controllen = sizeof(control.bytes);
	n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n == -1) {
		if (fd_without_memory(errno))
			take_rest(c);
		else if (!is_later(errno) && errno != EINTR)
			closed(c, errno == ECONNRESET ? NULL : strerror(errno));
		return (false);
	}
	if (n == 0) {
		closed(c, NULL);
		return (false);
	}
	fds = take_fds(&msg, &fd);
	if ((wrong = check_message(c, &header, (size_t)n, msg.msg_flags, fds)) == NULL &&
	    !is_sound((enum chan_type)header.type, &payload))
		wrong = "message with a value that can't be";
	if (wrong != NULL) {
		fd_close(&fd);
		closed(c, wrong);
		return (false);
	}
	c->on_message(c, (enum chan_type)header.type, &payload, fd);
	return (true);
}

/* When many come at once they come in rows. */
static void
on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
	struct chan	*c = w->data;
	int		 i;

	(void)ev;
	if (evloop_dropped(revents)) {
		take_rest(c);
		return;
	}
	for (i = 0; i < READ_BURST && c->fd != -1 && read_one(c); i++)
		;
}

void
chan_read_all(struct chan *c)
{
	while (c->fd != -1 && read_one(c))
		;
}

void
chan_init(struct chan *c, struct ev_loop *ev, int fd, enum chan_role self, enum chan_role peer,
    size_t max_queued, chan_message_cb *on_message, chan_closed_cb *on_closed, void *arg)
{
	memset(c, 0, sizeof(*c));
	c->fd = fd;
	c->self = self;
	c->peer = peer;
	c->arg = arg;
	c->ev = ev;
	c->max_queued = max_queued;
	c->on_message = on_message;
	c->on_closed = on_closed;
	ev_io_init(&c->in, on_readable, fd, EV_READ);
	ev_io_init(&c->out, on_writable, fd, EV_WRITE);
	ev_timer_init(&c->rest, on_rest_over, 0., REST_S);
	c->in.data = c->out.data = c->rest.data = c;
	ev_io_start(ev, &c->in);
}

void
chan_fini(struct chan *c)
{
	if (c->fd == -1)
		return;
	ev_io_stop(c->ev, &c->in);
	ev_io_stop(c->ev, &c->out);
	ev_timer_stop(c->ev, &c->rest);
	while (c->queue != NULL)
		drop_first(c);
	fd_close(&c->fd);
}

int
chan_release(struct chan *c)
{
	int fd = fd_take(&c->fd);

	ev_io_stop(c->ev, &c->in);
	ev_io_stop(c->ev, &c->out);
	ev_timer_stop(c->ev, &c->rest);
	while (c->queue != NULL)
		drop_first(c);
	return (fd);
}
