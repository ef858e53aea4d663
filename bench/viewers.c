/* SPDX-License-Identifier: ISC */
/*
 * viewers - thousands of viewers in one process: they open streams, read and count.
 *
 * Each viewer belongs to a group, the block that it watches.  All viewers of a
 * group should be sent the same events in the same order, so each keeps a hash of
 * its events' data; a viewer that has lost, doubled or swapped one differs from
 * the others.  How much later than the first viewer of its group each one has an
 * event is measured too.
 *
 *	viewers (http PORT | fcgi SOCKET) COUNT FIRST:GROUPS PATH
 *
 * PATH has a %d for the number of the group, FIRST and higher.  It then obeys lines on standard
 * input, and answers each with one line:
 *	open		opens all; "open MS": milliseconds until the last had its first event, or its header with "bare"
 *	bare		as open, for servers that send nothing at first
 *	mark		counts anew from here
 *	report		"report EVENTS BYTES ODD GONE P50 P99 MAX": ODD viewers differ, GONE were closed; microseconds
 *	close		closes all, at once
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define GROUP_EVENTS	65536		/* of a group since mark, whose first arrival is kept */
#define BUCKETS		4096		/* of lateness, 100 us each */
#define LINE_BYTES	160

struct group {
	int64_t		*first_us;	/* when its first viewer had event i since mark */
	uint64_t	 hash;		/* of the viewer with most events */
	uint64_t	 events;
};

struct viewer {
	int		 fd;
	struct group	*group;
	uint64_t	 hash, events;
	uint32_t	 left;		/* bytes left of this chunk or record */
	uint32_t	 padding;
	uint8_t		 head[8];	/* of a FastCGI record */
	uint8_t		 nhead;
	uint8_t		 blanks;	/* of the line ends that end the HTTP header */
	bool		 header, chunked, sized, begun, update;
	uint16_t	 nline;
	char		 line[LINE_BYTES];
};

static struct sockaddr_storage	 to;
static socklen_t		 to_len;
static bool			 fcgi, bare;
static struct viewer		*viewers;
static struct group		*groups;
static size_t			 count, ngroups, begun, gone;
static uint64_t			 total_events, total_bytes;
static uint64_t			 late[BUCKETS];
static const char		*path;
static int			 ep, first_group;

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}

static void
die(const char *what)
{
	fprintf(stderr, "viewers: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* One event's data line. */
static void
on_event(struct viewer *v, int64_t now)
{
	struct group	*g = v->group;
	size_t		 i;
	int64_t		 us;

	for (i = 0; i < v->nline; i++)
		v->hash = (v->hash ^ (uint8_t)v->line[i]) * 0x100000001b3u;
	if (v->events < GROUP_EVENTS) {
		if (g->first_us[v->events] == 0)
			g->first_us[v->events] = now;
		us = now - g->first_us[v->events];
		late[us / 100 < BUCKETS ? us / 100 : BUCKETS - 1]++;
	}
	v->events++;
	total_events++;
	if (v->events > g->events) {
		g->events = v->events;
		g->hash = v->hash;
	}
}

static void
on_begun(struct viewer *v)
{
	if (!v->begun)
		begun++;
	v->begun = true;
}

static void
on_line(struct viewer *v, int64_t now)
{
	if (v->nline > 6 && memcmp(v->line, "event:", 6) == 0)
		v->update = v->nline < 9 || (memcmp(v->line + 7, "beat", 4) != 0 && memcmp(v->line + 7, "init", 4) != 0);
	else if (v->nline > 5 && memcmp(v->line, "data:", 5) == 0) {
		on_begun(v);
		if (v->update)
			on_event(v, now);
		v->update = true;
	}
	v->nline = 0;
}

static void
on_text(struct viewer *v, const char *p, size_t n, int64_t now)
{
	for (; n > 0; p++, n--) {
		if (v->header) {	/* the end of the header is an empty line */
			if (*p == '\n') {
				if (v->nline >= 26 && strncasecmp(v->line, "transfer-encoding: chunked", 26) == 0)
					v->chunked = true;
				v->header = v->nline > 0;
				v->nline = 0;
				if (!v->header && bare)
					on_begun(v);
				if (!v->header && v->chunked)
					return;
			} else if (*p != '\r' && v->nline < LINE_BYTES)
				v->line[v->nline++] = *p;
		} else if (*p == '\n')
			on_line(v, now);
		else if (*p != '\r' && v->nline < LINE_BYTES)
			v->line[v->nline++] = *p;
	}
}

/* RFC 9112, 7.1: size in hexadecimal, line end, that many bytes, line end. */
static void
on_http(struct viewer *v, const char *p, size_t n, int64_t now)
{
	while (n > 0) {
		if (v->header || !v->chunked) {
			const char *end = v->header ? memchr(p, '\n', n) : NULL;
			size_t	    part = end != NULL ? (size_t)(end - p) + 1 : n;

			on_text(v, p, part, now);
			p += part;
			n -= part;
		} else if (v->left > 0) {
			size_t part = n < v->left ? n : v->left;

			on_text(v, p, part, now);
			v->left -= (uint32_t)part;
			p += part;
			n -= part;
		} else {
			if (*p == '\n' && v->nhead > 0) {
				v->head[v->nhead] = '\0';
				v->left = (uint32_t)strtoul((const char *)v->head, NULL, 16);
				v->nhead = 0;
			} else if (*p != '\r' && *p != '\n' && v->nhead < sizeof(v->head) - 1)
				v->head[v->nhead++] = (uint8_t)*p;
			p++;
			n--;
		}
	}
}

/* FastCGI 1.0, 3.3: the content of STDOUT records is the text. */
static void
on_fcgi(struct viewer *v, const char *p, size_t n, int64_t now)
{
	while (n > 0) {
		size_t part;

		if (v->left > 0) {
			part = n < v->left ? n : v->left;
			if (v->head[1] == 6)
				on_text(v, p, part, now);
			v->left -= (uint32_t)part;
		} else if (v->padding > 0) {
			part = n < v->padding ? n : v->padding;
			v->padding -= (uint32_t)part;
		} else {
			part = 1;
			v->head[v->nhead++] = (uint8_t)*p;
			if (v->nhead == 8) {
				v->nhead = 0;
				v->left = (uint32_t)v->head[4] << 8 | v->head[5];
				v->padding = v->head[6];
			}
		}
		p += part;
		n -= part;
	}
}

static void
take(struct viewer *v)
{
	static char	bytes[256 * 1024];
	ssize_t		n = recv(v->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0) {
		total_bytes += (uint64_t)n;
		(fcgi ? on_fcgi : on_http)(v, bytes, (size_t)n, now_us());
		return;
	}
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	close(v->fd);
	v->fd = -1;
	gone++;
}

static size_t
put_pair(char *out, const char *name, const char *value)
{
	size_t nl = strlen(name), vl = strlen(value);

	out[0] = (char)nl;
	out[1] = (char)vl;
	memcpy(out + 2, name, nl);
	memcpy(out + 2 + nl, value, vl);
	return (2 + nl + vl);
}

static size_t
request(char *out, size_t size, size_t group)
{
	char	where[256], *p = out;
	size_t	n;

	snprintf(where, sizeof(where), path, first_group + (int)group);
	if (!fcgi)
		return ((size_t)snprintf(out, size, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n", where));
	memcpy(p, "\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0", 16);	/* BEGIN_REQUEST, responder */
	p += 16;
	n = put_pair(p + 8, "REQUEST_METHOD", "GET");
	n += put_pair(p + 8 + n, "REQUEST_URI", where);
	n += put_pair(p + 8 + n, "REMOTE_ADDR", "127.0.0.1");
	n += put_pair(p + 8 + n, "HTTP_ACCEPT", "text/event-stream");
	memcpy(p, "\1\4\0\1\0\0\0\0", 8);
	p[4] = (char)(n >> 8);
	p[5] = (char)n;
	p += 8 + n;
	memcpy(p, "\1\4\0\1\0\0\0\0\1\5\0\1\0\0\0\0", 16);	/* the ends of PARAMS and STDIN */
	return ((size_t)(p + 16 - out));
}

static void
open_one(size_t i)
{
	struct viewer		*v = &viewers[i];
	struct epoll_event	 e = { EPOLLIN, { .ptr = v } };
	char			 bytes[1024];
	size_t			 n = request(bytes, sizeof(bytes), i % ngroups);

	memset(v, 0, sizeof(*v));
	v->group = &groups[i % ngroups];
	v->header = true;
	v->update = true;
	if ((v->fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1)
		die("socket");
	while (connect(v->fd, (struct sockaddr *)&to, to_len) == -1)
		if (errno != EAGAIN && errno != EINTR)
			die("connect");
		else
			poll(NULL, 0, 1);	/* a full backlog */
	if (send(v->fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
		die("send");
	(void)fcntl(v->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, v->fd, &e) == -1)
		die("epoll_ctl");
}

/* Read what comes for at most ms (0: what is there already). */
static void
serve(int ms)
{
	struct epoll_event	e[512];
	int			i, n = epoll_wait(ep, e, 512, ms);

	for (i = 0; i < n; i++)
		if (((struct viewer *)e[i].data.ptr)->fd != -1)
			take(e[i].data.ptr);
}

static void
open_all(void)
{
	int64_t	began = now_us();
	size_t	i;

	begun = gone = 0;
	for (i = 0; i < count; i++) {
		open_one(i);
		if (i % 64 == 63)
			serve(0);
	}
	while (begun + gone < count && now_us() - began < 60000000)
		serve(10);
	printf("open %.1f %zu\n", (double)(now_us() - began) / 1000, gone);
}

static void
mark(void)
{
	size_t i;

	for (i = 0; i < ngroups; i++) {
		memset(groups[i].first_us, 0, GROUP_EVENTS * sizeof(int64_t));
		groups[i].hash = groups[i].events = 0;
	}
	for (i = 0; i < count; i++)
		viewers[i].hash = viewers[i].events = 0;
	memset(late, 0, sizeof(late));
	total_events = total_bytes = 0;
	puts("mark");
}

static uint64_t
percentile(double share)
{
	uint64_t	sum = 0, all = 0;
	size_t		i;

	for (i = 0; i < BUCKETS; i++)
		all += late[i];
	for (i = 0; i < BUCKETS; i++)
		if ((sum += late[i]) >= share * (double)all && sum > 0)
			break;
	return (100 * i);
}

static void
report(void)
{
	size_t i, odd = 0;

	for (i = 0; i < count; i++)
		odd += viewers[i].events != viewers[i].group->events || viewers[i].hash != viewers[i].group->hash;
	printf("report %llu %llu %zu %zu %llu %llu %llu\n", (unsigned long long)total_events, (unsigned long long)total_bytes,
	    odd, gone, (unsigned long long)percentile(0.5), (unsigned long long)percentile(0.99), (unsigned long long)percentile(1));
}

static void
close_all(void)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (viewers[i].fd != -1)
			close(viewers[i].fd);
	puts("close");
}

static void
obey(const char *line)
{
	bare = strcmp(line, "bare\n") == 0;
	if (bare || strcmp(line, "open\n") == 0)
		open_all();
	else if (strcmp(line, "mark\n") == 0)
		mark();
	else if (strcmp(line, "report\n") == 0)
		report();
	else if (strcmp(line, "close\n") == 0)
		close_all();
	else
		puts("what?");
}

int
main(int argc, char **argv)
{
	struct rlimit		 rl;
	struct pollfd		 pfd[2];
	char			 line[64];
	size_t			 i;

	if (argc != 6) {
		fprintf(stderr, "usage: viewers (http PORT | fcgi SOCKET) COUNT FIRST:GROUPS PATH\n");
		return (2);
	}
	fcgi = strcmp(argv[1], "fcgi") == 0;
	if (fcgi) {
		struct sockaddr_un *sun = (struct sockaddr_un *)&to;

		sun->sun_family = AF_UNIX;
		snprintf(sun->sun_path, sizeof(sun->sun_path), "%s", argv[2]);
		to_len = sizeof(*sun);
	} else {
		struct sockaddr_in *sin = (struct sockaddr_in *)&to;

		sin->sin_family = AF_INET;
		sin->sin_port = htons((uint16_t)atoi(argv[2]));
		sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		to_len = sizeof(*sin);
	}
	count = strtoul(argv[3], NULL, 10);
	if (sscanf(argv[4], "%d:%zu", &first_group, &ngroups) != 2)
		ngroups = 0;
	path = argv[5];
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	if (count == 0 || ngroups == 0 || (viewers = calloc(count, sizeof(*viewers))) == NULL ||
	    (groups = calloc(ngroups, sizeof(*groups))) == NULL || (ep = epoll_create1(EPOLL_CLOEXEC)) == -1)
		die("start");
	for (i = 0; i < ngroups; i++)
		if ((groups[i].first_us = calloc(GROUP_EVENTS, sizeof(int64_t))) == NULL)
			die("start");
	for (i = 0; i < count; i++)
		viewers[i].fd = -1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	pfd[0] = (struct pollfd){ 0, POLLIN, 0 };
	pfd[1] = (struct pollfd){ ep, POLLIN, 0 };
	for (;;) {
		if (poll(pfd, 2, -1) == -1 && errno != EINTR)
			die("poll");
		if (pfd[1].revents)
			serve(0);
		if (pfd[0].revents) {
			if (fgets(line, sizeof(line), stdin) == NULL)
				return (0);
			obey(line);
		}
	}
}
