/* SPDX-License-Identifier: ISC */
/*
 * floor - the least that sending the same bytes to the same viewers can cost: no
 * database, no state, nothing to decide; accept, read a request, send.
 *
 *	floor (http PORT | fcgi SOCKET | fcgi PORT) GROUPS EVENTS INTERVAL_MS [SHAPE]
 *
 * A viewer's group is the number behind /blocks/ in its request.  Each group is
 * sent an init of 400 seats at first and then, once per interval, one frame of
 * EVENTS updates: what seatcast sends for as many changed seats.  http speaks
 * HTTP/1.1 by itself (one chunk a frame); fcgi is for a web server in front.
 * SHAPE is for trying what a web server likes: records (a record for each event,
 * one send), sends (a send for each), padded (records padded to 8 bytes),
 * header:N (N bytes more of response header), sndbuf:N (the socket's buffer).
 * One process, one epoll set; ends with its standard input.
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SEATS		400

struct viewer {
	struct viewer	*next;		/* of its group */
	int		 fd;
	bool		 served;
	size_t		 nin;
	char		*in;		/* the request, until it is whole */
	char		*rest;		/* what the socket did not take */
	size_t		 nrest;
};

struct bytes {
	char		*at;
	size_t		 len;
};

static bool		 fcgi;
static struct viewer	**groups;
static size_t		 ngroups;
static int		 ep;
static const char	*shape = "";

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
}

static void
die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* N of "NAME:N" if that is the shape; else 0. */
static size_t
number_of(const char *name)
{
	size_t n = strlen(name);

	return (strncmp(shape, name, n) == 0 ? strtoul(shape + n, NULL, 10) : 0);
}

/* Text as FastCGI STDOUT records of at most 8 KiB, or as one HTTP chunk. */
static struct bytes
framed(const char *text, size_t len)
{
	struct bytes	 b = { malloc(len + len / 8000 * 16 + 64), 0 };
	size_t		 part, padding;

	if (b.at == NULL)
		die("memory");
	if (!fcgi) {
		b.len = (size_t)sprintf(b.at, "%zx\r\n", len);
		memcpy(b.at + b.len, text, len);
		memcpy(b.at + b.len + len, "\r\n", 2);
		b.len += len + 2;
		return (b);
	}
	for (; len > 0; text += part, len -= part) {
		part = len > 8184 ? 8184 : len;
		memcpy(b.at + b.len, "\1\6\0\1\0\0\0\0", 8);
		b.at[b.len + 4] = (char)(part >> 8);
		b.at[b.len + 5] = (char)part;
		memcpy(b.at + b.len + 8, text, part);
		padding = strcmp(shape, "padded") == 0 ? -part % 8 : 0;
		b.at[b.len + 6] = (char)padding;
		memset(b.at + b.len + 8 + part, 0, padding);
		b.len += 8 + part + padding;
	}
	return (b);
}

static void
put(struct viewer *v, struct bytes b)
{
	ssize_t n = v->nrest > 0 ? 0 : send(v->fd, b.at, b.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	char	*more;

	if (n == -1 && errno != EAGAIN)
		return;			/* epoll tells */
	if (n == -1)
		n = 0;
	if ((size_t)n == b.len)
		return;
	if ((more = realloc(v->rest, v->nrest + b.len - (size_t)n)) == NULL)
		die("memory");
	memcpy(more + v->nrest, b.at + n, b.len - (size_t)n);
	v->rest = more;
	v->nrest += b.len - (size_t)n;
	epoll_ctl(ep, EPOLL_CTL_MOD, v->fd, &(struct epoll_event){ EPOLLIN | EPOLLOUT, { .ptr = v } });
}

static void
drain(struct viewer *v)
{
	ssize_t n = send(v->fd, v->rest, v->nrest, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n <= 0)
		return;
	memmove(v->rest, v->rest + n, v->nrest - (size_t)n);
	if ((v->nrest -= (size_t)n) == 0)
		epoll_ctl(ep, EPOLL_CTL_MOD, v->fd, &(struct epoll_event){ EPOLLIN, { .ptr = v } });
}

static struct bytes
init_bytes(void)
{
	static struct bytes	 b;
	char			 text[SEATS * 48 + 512 + 8192];
	size_t			 n = 0, more = number_of("header:");
	int			 i;

	if (b.at != NULL)
		return (b);
	if (fcgi)
		n += (size_t)sprintf(text, "Status: 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n");
	if (fcgi && more > 0 && more <= 8000)
		n += (size_t)sprintf(text + n, "X-More: %0*d\r\n", (int)more, 0);
	if (fcgi)
		n += (size_t)sprintf(text + n, "\r\n");
	n += (size_t)sprintf(text + n, "retry: 2000\n\nevent: init\ndata: {\"status\":200,\"data\":{\"seats\":[");
	for (i = 0; i < SEATS; i++)
		n += (size_t)sprintf(text + n, "%s{\"id\":%d,\"status\":\"AVAILABLE\"}", i > 0 ? "," : "", 101 + i);
	n += (size_t)sprintf(text + n, "]}}\nid: 5f3a9c1e-1\n\n");
	b = framed(text, n);
	return (b);
}

static void
serve(struct viewer *v)
{
	static const char	 header[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
	const char		*at = memmem(v->in, v->nin, "/blocks/", 8);
	size_t			 group = at != NULL ? strtoul(at + 8, NULL, 10) % ngroups : 0;

	if (!fcgi)
		put(v, (struct bytes){ (char *)(uintptr_t)header, sizeof(header) - 1 });
	put(v, init_bytes());
	v->served = true;
	v->next = groups[group];
	groups[group] = v;
	free(v->in);
	v->in = NULL;
}

static void
take(struct viewer *v)
{
	char	 bytes[4096];
	ssize_t	 n = recv(v->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	struct viewer **p;
	size_t	 i;

	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		for (i = 0; i < ngroups; i++)
			for (p = &groups[i]; *p != NULL; p = &(*p)->next)
				if (*p == v) {
					*p = v->next;
					break;
				}
		close(v->fd);
		free(v->in);
		free(v->rest);
		free(v);
		return;
	}
	if (v->served || (v->in = realloc(v->in, v->nin + (size_t)n)) == NULL)
		return;
	memcpy(v->in + v->nin, bytes, (size_t)n);
	v->nin += (size_t)n;
	if (fcgi ? v->nin >= 8 && memcmp(v->in + v->nin - 8, "\1\5\0\1\0\0\0\0", 8) == 0 :
	    memmem(v->in, v->nin, "\r\n\r\n", 4) != NULL)
		serve(v);
}

static void
publish(size_t group, int events, unsigned turn)
{
	static const char *const status[] = { "AVAILABLE", "HOLD", "OCCUPIED" };
	char		 text[65536];
	size_t		 n = 0;
	struct bytes	 b, all = { NULL, 0 };
	struct viewer	*v;
	bool		 records = strcmp(shape, "records") == 0, sends = strcmp(shape, "sends") == 0;
	int		 i;

	if (records && (all.at = malloc((size_t)events * 256)) == NULL)
		die("memory");
	for (i = 0; i < events && n < sizeof(text) - 256; i++) {
		n += (size_t)sprintf(text + n, "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":%d,\"status\":\"%s\"}}\n%s\n",
		    101 + (int)((turn * 7 + (unsigned)i * 11) % SEATS), status[(turn + (unsigned)i) % 3], i == events - 1 ? "id: 5f3a9c1e-41\n" : "");
		if (i < events - 1 && !records && !sends)
			continue;
		b = framed(text, n);
		n = 0;
		if (records) {
			memcpy(all.at + all.len, b.at, b.len);
			all.len += b.len;
		} else
			for (v = groups[group]; v != NULL; v = v->next)
				put(v, b);
		free(b.at);
	}
	for (v = groups[group]; records && v != NULL; v = v->next)
		put(v, all);
	free(all.at);
}

static int
listen_on(const char *kind, const char *where)
{
	struct sockaddr_un	sun = { .sun_family = AF_UNIX };
	struct sockaddr_in	sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bool			local = strchr(where, '/') != NULL;
	int			fd, on = 1;

	fcgi = strcmp(kind, "fcgi") == 0;
	if ((fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) == -1)
		die("socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", where);
	sin.sin_port = htons((uint16_t)atoi(where));
	if (local)
		(void)unlink(where);
	if (bind(fd, local ? (struct sockaddr *)&sun : (struct sockaddr *)&sin, local ? sizeof(sun) : sizeof(sin)) == -1 || listen(fd, 4096) == -1)
		die("listen");
	return (fd);
}

int
main(int argc, char **argv)
{
	struct epoll_event	 e[512];
	struct rlimit		 rl;
	struct viewer		*v;
	int64_t			 began, next;
	unsigned		 turn = 0;
	int			 i, n, fd, listener, interval, events, sndbuf;

	if (argc != 6 && argc != 7) {
		fprintf(stderr, "usage: floor (http PORT | fcgi SOCKET | fcgi PORT) GROUPS EVENTS INTERVAL_MS [SHAPE]\n");
		return (2);
	}
	if (argc == 7)
		shape = argv[6];
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	ngroups = strtoul(argv[3], NULL, 10);
	events = atoi(argv[4]);
	interval = atoi(argv[5]);
	if (ngroups == 0 || interval <= 0 || (groups = calloc(ngroups, sizeof(struct viewer *))) == NULL || (ep = epoll_create1(EPOLL_CLOEXEC)) == -1)
		die("start");
	listener = listen_on(argv[1], argv[2]);
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &(struct epoll_event){ EPOLLIN, { .ptr = NULL } });
	epoll_ctl(ep, EPOLL_CTL_ADD, 0, &(struct epoll_event){ EPOLLIN, { .ptr = &ep } });
	began = now_ms();
	for (;;) {
		/* group g's moment is g/ngroups of the interval after the turn's beginning */
		next = began + (int64_t)turn * interval / (int64_t)ngroups;
		n = epoll_wait(ep, e, 512, events == 0 ? -1 : next > now_ms() ? (int)(next - now_ms()) : 0);
		for (i = 0; i < n; i++) {
			if (e[i].data.ptr == &ep)
				return (0);
			if (e[i].data.ptr == NULL) {
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) != -1) {
					if ((v = calloc(1, sizeof(*v))) == NULL)
						die("memory");
					v->fd = fd;
					if ((sndbuf = (int)number_of("sndbuf:")) > 0)
						(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
					epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ EPOLLIN, { .ptr = v } });
				}
				continue;
			}
			v = e[i].data.ptr;
			if (e[i].events & EPOLLOUT)
				drain(v);
			if (e[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				take(v);
		}
		while (events > 0 && now_ms() >= began + (int64_t)turn * interval / (int64_t)ngroups) {
			publish(turn % ngroups, events, turn / (unsigned)ngroups);
			turn++;
		}
	}
}
