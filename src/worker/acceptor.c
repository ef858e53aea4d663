/* SPDX-License-Identifier: ISC */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <arpa/inet.h>
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
#include "wire/fcgi.h"
#include "wire/http.h"
#include "worker/acceptor.h"
#include "worker/answer.h"

#define MAX_CONNECTIONS		1024	/* per worker; beyond it the backlog waits */
#define MAX_HALF_BYTES		(32 * 1024 * 1024)	/* of requests that are not whole; then who has sent most goes */
#define ACCEPT_BURST		16
#define ACCEPT_PAUSE_S		0.1	/* out of descriptors or memory: pause, don't spin */
#define MEMORY_BYTES		(128 * 1024)	/* of a small request, libfcgi and its answer */
#define NO_MEMORY_MS		3000	/* for so long: this process is of no use any more */
#define REQUEST_DEADLINE_S	5.0	/* from accept to the whole request, body included */

struct connection {
	struct connection	*prev, *next;
	struct acceptor		*acceptor;
	ev_io			 io;
	ev_timer		 deadline;
	int			 fd;
	bool			 unwatched;	/* the system had no memory to watch it: until the deadline */
	struct fcgi_scan	 scan;
	struct buf		 bytes;		/* what has come so far */
};

struct acceptor {
	struct ev_loop		*ev;
	struct board_slot	*slot;
	struct answers		*answers;
	acceptor_whole_cb	*on_whole;
	void			*arg;
	const char		*allowed;	/* FCGI_WEB_SERVER_ADDRS; NULL: everybody */
	ev_io			 listener;
	ev_timer		 pause;
	bool			 stopped;
	bool			 starved;	/* logged: out of descriptors or memory */
	struct connection	*spare;		/* for the next: who has no memory does not accept */
	int64_t			 no_memory_ms;	/* monotonic: since when; 0: there is some */
	bool			 refused;	/* logged: an address that is not allowed */
	struct connection	*connections;
	size_t			 count;
	size_t			 half_bytes;	/* of all connections */
	unsigned char		 piece[FCGI_MAX_REQUEST_BYTES + 1];	/* most requests are one */
};

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
	ev_timer_stop(in->ev, &c->deadline);
	DL_DELETE(in->connections, c);
	in->count--;
	in->half_bytes -= c->bytes.len;
	buf_fini(&c->bytes);
	free(c);
	accept_on(in);
	return (fd);
}

static void
drop(struct connection *c, const char *why)
{
	int fd;

	log_debug("connection: dropped: %s", why);
	board_add(c->acceptor->slot, BOARD_requests_bad, 1);
	fd = release(c);
	fd_close(&fd);
}

/* Answer without libfcgi. */
static void
refuse(struct connection *c, int status, const char *message, const char *extra, const char *why)
{
	struct answers	*answers = c->acceptor->answers;
	uint16_t	 request_id = c->scan.request_id;
	struct buf	 b = BUF_INIT;

	log_debug("connection: refused: %s", why);
	board_add(c->acceptor->slot, BOARD_requests_bad, 1);
	http_error(&b, status, message, extra, false);
	answers_send_early(answers, release(c), request_id, NULL, &b);
}

static void
refuse_role(struct connection *c)
{
	struct answers	*answers = c->acceptor->answers;
	uint16_t	 request_id = c->scan.request_id;

	log_debug("connection: refused: %s", c->scan.why);
	board_add(c->acceptor->slot, BOARD_requests_bad, 1);
	answers_end(answers, release(c), request_id, FCGI_UNKNOWN_ROLE);
}

/* Perhaps: what has come of a request that there is no memory for says so. */
static bool
takes_stream(const struct buf *before, const void *piece, size_t len)
{
	return (http_mentions_sse(before->data, before->len) || http_mentions_sse(piece, len));
}

static void
let_through(struct connection *c, const void *piece, size_t len)
{
	struct acceptor	*in = c->acceptor;
	struct buf	 whole = c->bytes;
	uint16_t	 request_id = c->scan.request_id;
	const char	*stream;
	int		 fd;

	in->half_bytes -= c->bytes.len;
	c->bytes = (struct buf)BUF_INIT;
	fd = release(c);
	if (whole.len == 0)
		in->on_whole(in->arg, fd, request_id, piece, len);
	else {
		buf_add(&whole, piece, len);
		if (buf_ok(&whole))
			in->on_whole(in->arg, fd, request_id, whole.data, whole.len);
		else {
			stream = takes_stream(&whole, piece, len) ? "" : NULL;
			buf_reset(&whole);
			whole.failed = true;	/* says so itself */
			answers_send(in->answers, fd, request_id, stream, &whole);
		}
	}
	buf_fini(&whole);
}

/* There is a limit to what halves of requests may hold together: who has sent most makes room. */
static void
make_room(struct acceptor *in)
{
	struct connection *c, *most = NULL;

	DL_FOREACH(in->connections, c)
		if (most == NULL || c->bytes.len > most->bytes.len)
			most = c;
	if (most != NULL)
		refuse(most, 503, "the service is overloaded, please try again shortly", "Retry-After: 2\r\n",
		    "too much waits for the rest of its request");
}

static void
refuse_without_memory(struct connection *c, const void *piece, size_t len)
{
	struct answers	*answers = c->acceptor->answers;
	uint16_t	 request_id = c->scan.request_id;
	const char	*stream = takes_stream(&c->bytes, piece, len) ? "" : NULL;
	struct buf	 failed = { .failed = true };

	answers_send_early(answers, release(c), request_id, stream, &failed);
}

static void
keep(struct connection *c, const void *piece, size_t len)
{
	struct acceptor *in = c->acceptor;

	buf_add(&c->bytes, piece, len);
	if (!buf_ok(&c->bytes)) {
		refuse_without_memory(c, piece, len);
		return;
	}
	in->half_bytes += len;
	while (in->half_bytes > MAX_HALF_BYTES)
		make_room(in);
}

static void
judge(struct connection *c, enum fcgi_verdict verdict, const void *piece, size_t len)
{
	switch (verdict) {
	case FCGI_WHOLE:
		let_through(c, piece, len);
		break;
	case FCGI_MORE:
		keep(c, piece, len);
		break;
	case FCGI_BAD_ROLE:
		refuse_role(c);
		break;
	case FCGI_BAD_PARAM:
		refuse(c, 400, "malformed request header", NULL, c->scan.why);
		break;
	case FCGI_BIG_PARAMS:
		refuse(c, 400, "request header too large", NULL, c->scan.why);
		break;
	case FCGI_BIG_BODY:
		refuse(c, 413, "the body is larger than 16 KiB", NULL, c->scan.why);
		break;
	case FCGI_BAD:
	case FCGI_MANAGEMENT:
		drop(c, c->scan.why);
		break;
	}
}

static void
set_deadline(struct connection *c, double seconds)
{
	struct ev_loop *ev = c->acceptor->ev;

	ev_now_update(ev);
	ev_timer_stop(ev, &c->deadline);
	ev_timer_set(&c->deadline, seconds, 0.);
	ev_timer_start(ev, &c->deadline);
}

static void
look_later(struct connection *c)
{
	ev_io_stop(c->acceptor->ev, &c->io);
	c->unwatched = true;
	set_deadline(c, ACCEPT_PAUSE_S);
}

/* Look at what has come, and take of it what belongs to the request. */
static void
read_on(struct connection *c)
{
	unsigned char		*piece = c->acceptor->piece;
	enum fcgi_verdict	 verdict;
	size_t			 used;
	ssize_t			 n;

	if ((n = recv(c->fd, piece, sizeof(c->acceptor->piece), MSG_PEEK | MSG_DONTWAIT)) > 0) {
		verdict = fcgi_scan(&c->scan, piece, (size_t)n, &used);
		if (recv(c->fd, piece, used, MSG_DONTWAIT) != (ssize_t)used)	/* the same bytes: nobody else reads here */
			drop(c, "what was seen can't be read");
		else
			judge(c, verdict, piece, used);
	} else if (n == 0)
		drop(c, "closed before its request was whole");
	else if (fd_without_memory(errno))
		look_later(c);		/* it stays readable: asking again at once would spin */
	else if (!fd_try_later(errno))
		drop(c, strerror(errno));
}

static void
on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
	struct connection *c = w->data;

	(void)ev;
	if (evloop_dropped(revents))
		look_later(c);
	else
		read_on(c);
}

/* Whose name is known hears of it; who has not even said BEGIN does not. */
static void
on_deadline(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct connection *c = w->data;

	(void)ev;
	(void)revents;
	if (c->unwatched) {
		c->unwatched = false;
		set_deadline(c, REQUEST_DEADLINE_S);
		ev_io_start(c->acceptor->ev, &c->io);
	} else if (c->scan.request_id != 0)
		refuse(c, 408, "the request did not come in time", NULL, "no whole request in time");
	else
		drop(c, "no whole request in time");
}

/* An address as IPv6, those of IPv4 mapped.  -1: it is none (a unix socket's). */
static int
to_ipv6(int family, const void *address, struct in6_addr *a_r)
{
	memset(a_r, 0, sizeof(*a_r));
	if (family == AF_INET6)
		memcpy(a_r, address, sizeof(*a_r));
	else if (family == AF_INET) {
		a_r->s6_addr[10] = a_r->s6_addr[11] = 0xff;
		memcpy(&a_r->s6_addr[12], address, 4);
	}
	return (family == AF_INET6 || family == AF_INET ? 0 : -1);
}

/* Is it one of "192.0.2.1,192.0.2.2" (FastCGI 1.0, 3.2)?  Whoever reaches a unix socket is. */
static bool
is_web_server(const char *allowed, const struct sockaddr_storage *peer)
{
	struct in6_addr	 it, one;
	unsigned char	 bytes[sizeof(struct in6_addr)];
	char		 text[INET6_ADDRSTRLEN];
	size_t		 n;

	if (allowed == NULL || to_ipv6(peer->ss_family, peer->ss_family == AF_INET6 ?
	    (const void *)&((const struct sockaddr_in6 *)peer)->sin6_addr :
	    (const void *)&((const struct sockaddr_in *)peer)->sin_addr, &it) == -1)
		return (true);
	for (; *allowed != '\0'; allowed += n) {
		allowed += strspn(allowed, ", ");
		n = strcspn(allowed, ", ");
		if (n == 0 || n >= sizeof(text))
			continue;
		memcpy(text, allowed, n);
		text[n] = '\0';
		if ((inet_pton(AF_INET, text, bytes) == 1 && to_ipv6(AF_INET, bytes, &one) == 0) ||
		    (inet_pton(AF_INET6, text, bytes) == 1 && to_ipv6(AF_INET6, bytes, &one) == 0))
			if (memcmp(&it, &one, sizeof(it)) == 0)
				return (true);
	}
	return (false);
}

/*
 * Is there memory for another request?  Without, what waits in the backlog is for
 * other workers; and a process that has none for long ends, so that it gets another
 * chance: the master starts a new one.
 */
static bool
has_memory(struct acceptor *in)
{
	void *volatile probe = malloc(MEMORY_BYTES);

	free(probe);
	if (in->spare == NULL)
		in->spare = calloc(1, sizeof(*in->spare));
	if (probe != NULL && in->spare != NULL) {
		in->no_memory_ms = 0;
		return (true);
	}
	if (in->no_memory_ms == 0)
		in->no_memory_ms = mono_ms();
	else if (mono_ms() - in->no_memory_ms >= NO_MEMORY_MS)
		fatalx("accept: no memory for %d s: ending", NO_MEMORY_MS / 1000);
	errno = ENOMEM;
	return (false);
}

/* Over TCP: frames go out at once, and dead peers are found. */
static void
tune_tcp(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static void
admit(struct acceptor *in, int fd)
{
	struct connection	*c = in->spare;

	in->spare = NULL;
	c->acceptor = in;
	c->fd = fd;
	ev_io_init(&c->io, on_readable, fd, EV_READ);
	ev_timer_init(&c->deadline, on_deadline, REQUEST_DEADLINE_S, 0.);
	c->io.data = c->deadline.data = c;
	DL_APPEND(in->connections, c);
	in->count++;
	ev_io_start(in->ev, &c->io);
	ev_now_update(in->ev);
	ev_timer_start(in->ev, &c->deadline);
	read_on(c);			/* most requests are there already */
}

/* A new connection that was taken from the backlog. */
static void
take(struct acceptor *in, int fd, const struct sockaddr_storage *peer)
{
	in->starved = false;
	if (is_web_server(in->allowed, peer)) {
		if (peer->ss_family != AF_UNIX)
			tune_tcp(fd);
		admit(in, fd);
		return;
	}
	if (!in->refused)
		log_warnx("accept: refused: the address is not in FCGI_WEB_SERVER_ADDRS");
	in->refused = true;
	board_add(in->slot, BOARD_requests_bad, 1);
	fd_close(&fd);
}

static void
pause_accepting(struct acceptor *in)
{
	if (!in->starved && errno == ENOMEM)
		log_warn("accept: pausing");
	else if (!in->starved)
		log_warn("accept: pausing; raise the limit of open files (RLIMIT_NOFILE)");
	in->starved = true;
	ev_io_stop(in->ev, &in->listener);
	ev_timer_set(&in->pause, ACCEPT_PAUSE_S, 0.);
	ev_timer_start(in->ev, &in->pause);
}

static void
on_acceptable(struct ev_loop *ev, ev_io *w, int revents)
{
	struct acceptor		*in = w->data;
	struct sockaddr_storage	 peer;
	socklen_t		 len;
	int			 fd, i;

	if (evloop_dropped(revents)) {
		errno = ENOMEM;
		pause_accepting(in);
		return;
	}
	for (i = 0; i < ACCEPT_BURST; i++) {
		memset(&peer, 0, sizeof(peer));
		len = sizeof(peer);
		fd = has_memory(in) ? accept4(w->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC) : -1;
		if (fd == -1) {
			if (errno == EMFILE || errno == ENFILE || fd_without_memory(errno))
				pause_accepting(in);
			return;
		}
		take(in, fd, &peer);
		if (in->count >= MAX_CONNECTIONS) {
			ev_io_stop(ev, w);
			return;
		}
	}
}

static void
on_pause_over(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct acceptor *in = w->data;

	(void)ev;
	(void)revents;
	if (in->no_memory_ms != 0 && !has_memory(in))
		pause_accepting(in);
	else
		accept_on(in);
}

struct acceptor *
acceptor_new(struct ev_loop *ev, int listen_fd, struct board_slot *slot, struct answers *answers,
    acceptor_whole_cb *on_whole, void *arg)
{
	struct acceptor *in;

	if ((in = calloc(1, sizeof(*in))) == NULL)
		return (NULL);
	in->ev = ev;
	in->slot = slot;
	in->answers = answers;
	in->allowed = getenv("FCGI_WEB_SERVER_ADDRS");
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
	while (in->connections != NULL)
		drop(in->connections, "ending");
	free(in->spare);
	free(in);
	*inp = NULL;
}
