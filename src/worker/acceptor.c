/*
 * MSG_PEEK leaves the bytes in the socket, so a level-triggered watcher would
 * report a half request for ever.  After a look that was too early the
 * connection is looked at again by a timer, 1 ms doubling to 50 ms: web servers
 * write a request in one or two pieces, drippers cost twenty looks a second.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/buf.h"
#include "base/evloop.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "shared/board.h"
#include "wire/chunk.h"
#include "wire/fcgi.h"
#include "wire/http.h"
#include "worker/acceptor.h"

#define MAX_CONNECTIONS		1024	/* per worker; beyond it the backlog waits */
#define ACCEPT_BURST		16
#define ACCEPT_PAUSE_S		0.1	/* out of descriptors: pause, don't spin */
#define REQUEST_DEADLINE_MS	5000	/* from accept to the whole request */
#define LINGER_MS		1000	/* after an error answer: read on, so that the peer gets to read it */
#define LOOK_FIRST_MS		1
#define LOOK_LAST_MS		50

struct connection {
	struct connection	*prev, *next;
	struct acceptor		*acceptor;
	ev_io			 io;
	ev_timer		 timer;
	int64_t			 deadline_ms;	/* monotonic */
	int64_t			 look_ms;
	int			 fd;
	bool			 lingering;
};

struct acceptor {
	struct ev_loop		*ev;
	struct board_slot	*slot;
	acceptor_whole_cb		*on_whole;
	void			*arg;
	ev_io			 listener;
	ev_timer		 pause;
	bool			 stopped;
	bool			 starved;	/* logged: out of descriptors */
	struct connection	*connections;
	size_t			 count;
	unsigned char		 look[FCGI_MAX_REQUEST_BYTES + 1];
};

static void	look(struct connection *c);

static void
accept_on(struct acceptor *in)
{
	if (!in->stopped && in->count < MAX_CONNECTIONS && !ev_is_active(&in->pause))
		ev_io_start(in->ev, &in->listener);
}

/* Forget the connection; its descriptor is returned. */
static int
release(struct connection *c)
{
	struct acceptor	*in = c->acceptor;
	int		 fd = c->fd;

	ev_io_stop(in->ev, &c->io);
	ev_timer_stop(in->ev, &c->timer);
	DL_DELETE(in->connections, c);
	in->count--;
	free(c);
	accept_on(in);
	return (fd);
}

static void
drop(struct connection *c, const char *why)
{
	int fd;

	if (!c->lingering) {
		log_debug("connection: dropped: %s", why);
		board_add(c->acceptor->slot, BOARD_requests_bad, 1);
	}
	fd = release(c);
	fd_close(&fd);
}

static void
look_again_in(struct connection *c, int64_t ms)
{
	int64_t left = c->deadline_ms - mono_ms();

	if (ms > left)
		ms = left > 0 ? left : 0;
	ev_now_update(c->acceptor->ev);
	ev_timer_stop(c->acceptor->ev, &c->timer);
	ev_timer_set(&c->timer, (double)ms / 1000, 0.);
	ev_timer_start(c->acceptor->ev, &c->timer);
}

/* Answer without libfcgi, then read on for a moment: closing with bytes unread would reset the answer away. */
static void
answer_and_linger(struct connection *c, const void *bytes, size_t len, const char *why)
{
	log_debug("connection: refused: %s", why);
	board_add(c->acceptor->slot, BOARD_requests_bad, 1);
	(void)send(c->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(c->fd, SHUT_WR);
	c->lingering = true;
	c->deadline_ms = mono_ms() + LINGER_MS;
	ev_io_start(c->acceptor->ev, &c->io);
	look_again_in(c, LINGER_MS);
}

static void
answer_error(struct connection *c, uint16_t request_id, int status, const char *message, const char *why)
{
	struct buf	 b = BUF_INIT;
	struct chunk	*p;

	http_error(&b, status, message, NULL, false);
	p = chunk_last_from(request_id, &b);
	buf_fini(&b);
	if (p != NULL)
		answer_and_linger(c, p->bytes, p->len, why);
	else
		drop(c, "out of memory");
	chunk_unref(&p);
}

static void
linger(struct connection *c)
{
	ssize_t n = recv(c->fd, c->acceptor->look, sizeof(c->acceptor->look), MSG_DONTWAIT);

	if (n == 0 || (n == -1 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		drop(c, "");
}

static void
let_through(struct connection *c)
{
	struct acceptor	*in = c->acceptor;
	int		 fd = release(c);

	in->on_whole(in->arg, fd);
}

static void
judge(struct connection *c, size_t len)
{
	struct fcgi_seen	seen;
	unsigned char		end[FCGI_END_BYTES];

	switch (fcgi_examine(c->acceptor->look, len, &seen)) {
	case FCGI_WHOLE:
		let_through(c);
		break;
	case FCGI_MORE:
		ev_io_stop(c->acceptor->ev, &c->io);
		look_again_in(c, c->look_ms);
		c->look_ms = c->look_ms * 2 > LOOK_LAST_MS ? LOOK_LAST_MS : c->look_ms * 2;
		break;
	case FCGI_BAD_ROLE:
		fcgi_end(end, seen.request_id, FCGI_STATUS_UNKNOWN_ROLE);
		answer_and_linger(c, end, sizeof(end), seen.why);
		break;
	case FCGI_BAD_PARAM:
		answer_error(c, seen.request_id, 400, "malformed request header", seen.why);
		break;
	case FCGI_BIG_PARAMS:
		answer_error(c, seen.request_id, 400, "request header too large", seen.why);
		break;
	case FCGI_BIG_BODY:
		answer_error(c, seen.request_id, 413, "the body is larger than 16 KiB", seen.why);
		break;
	case FCGI_BAD:
	case FCGI_GET_VALUES:
		drop(c, seen.why);
		break;
	}
}

static void
look(struct connection *c)
{
	ssize_t n;

	n = recv(c->fd, c->acceptor->look, sizeof(c->acceptor->look), MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		judge(c, (size_t)n);
	else if (n == 0)
		drop(c, "closed before its request was whole");
	else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		drop(c, strerror(errno));
}

static void
on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
	struct connection *c = w->data;

	(void)ev;
	if (revents & EV_ERROR)
		drop(c, "no memory to watch it");
	else if (c->lingering)
		linger(c);
	else
		look(c);
}

static void
on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct connection *c = w->data;

	(void)ev;
	(void)revents;
	if (mono_ms() >= c->deadline_ms)
		drop(c, "no whole request in time");
	else
		look(c);
}

static void
admit(struct acceptor *in, int fd)
{
	struct connection	*c;
	int			 on = 1;

	if ((c = calloc(1, sizeof(*c))) == NULL) {
		fd_close(&fd);
		return;
	}
	/* over TCP: frames go out at once, and dead peers are found; on a unix socket neither applies */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	c->acceptor = in;
	c->fd = fd;
	c->deadline_ms = mono_ms() + REQUEST_DEADLINE_MS;
	c->look_ms = LOOK_FIRST_MS;
	ev_io_init(&c->io, on_readable, fd, EV_READ);
	ev_timer_init(&c->timer, on_timer, 0., 0.);
	c->io.data = c->timer.data = c;
	DL_APPEND(in->connections, c);
	in->count++;
	ev_io_start(in->ev, &c->io);
	look_again_in(c, REQUEST_DEADLINE_MS);
	look(c);			/* most requests are there already */
}

static void
on_acceptable(struct ev_loop *ev, ev_io *w, int revents)
{
	struct acceptor	*in = w->data;
	int		 fd, i;

	evloop_check(revents);
	for (i = 0; i < ACCEPT_BURST; i++) {
		if ((fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC)) != -1) {
			in->starved = false;
			admit(in, fd);
			if (in->count >= MAX_CONNECTIONS) {
				ev_io_stop(ev, w);
				return;
			}
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			if (!in->starved)
				log_warn("accept: pausing; raise the limit of open files (RLIMIT_NOFILE)");
			in->starved = true;
			ev_io_stop(ev, w);
			ev_timer_set(&in->pause, ACCEPT_PAUSE_S, 0.);
			ev_timer_start(ev, &in->pause);
		}
		return;
	}
}

static void
on_pause_over(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)revents;
	accept_on(w->data);
}

struct acceptor *
acceptor_new(struct ev_loop *ev, int listen_fd, struct board_slot *slot, acceptor_whole_cb *on_whole, void *arg)
{
	struct acceptor *in;

	if ((in = calloc(1, sizeof(*in))) == NULL)
		return (NULL);
	in->ev = ev;
	in->slot = slot;
	in->on_whole = on_whole;
	in->arg = arg;
	ev_io_init(&in->listener, on_acceptable, listen_fd, EV_READ);
	ev_timer_init(&in->pause, on_pause_over, 0., 0.);
	in->listener.data = in->pause.data = in;
	accept_on(in);
	return (in);
}

void
acceptor_stop(struct acceptor *in)
{
	in->stopped = true;
	ev_io_stop(in->ev, &in->listener);
	ev_timer_stop(in->ev, &in->pause);
}

size_t
acceptor_count(const struct acceptor *in)
{
	return (in->count);
}

void
acceptor_free(struct acceptor **inp)
{
	struct acceptor *in = *inp;

	if (in == NULL)
		return;
	acceptor_stop(in);
	while (in->connections != NULL) {
		in->connections->lingering = true;
		drop(in->connections, "");
	}
	free(in);
	*inp = NULL;
}
