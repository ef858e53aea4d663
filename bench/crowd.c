/* SPDX-License-Identifier: ISC */
/*
 * crowd - viewers as they are in a soak: they come and go, return with what they had,
 * stop reading for a while, and each knows at any time which seats it was shown.
 *
 * What is watched all the time, for each viewer: an init has every seat of its
 * block in order; updates of one poll come in order; ids rise; and all viewers of a
 * block that hold the same id have the same seats, however they came by it
 * (init, update, Last-Event-ID, what was missed while not reading).  That last
 * rule is what finds a gap.  A stream that ends is asked for again after its
 * `retry:` with Last-Event-ID, as browsers do; an answer after which a browser
 * would not ask again is counted.
 *
 *	crowd PORT COUNT FIRST:BLOCKS SEATS CHURN SEED PATH
 *
 * Block FIRST has the seats 1 to SEATS, the next one the following SEATS, and so on; PATH
 * has a %d for the block.  CHURN viewers a second leave, and as many come.
 * Lines on standard input; each is answered by one that begins with its word, some later:
 *	state			"state CONNECTED …": name value pairs
 *	stall N MS		N of them read nothing for so long
 *	herd N			N of them leave at once and come again
 *	expect N BLOCK SEAT STATUS	a change is being made; "delay N VIEWERS P50 P99 MAX MISSING", ms: how much later
 *				those who were there and stayed had it
 *	forget N		it was not made
 *	compare FILE		"compare VIEWERS DIFFERENT BLOCK": FILE has a letter for each seat's status
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define KNOWN		4096		/* ids of a block whose seats are remembered */
#define EXPECTED	64		/* changes that are waited for at once */
#define PATIENCE_US	8000000
#define COMPLAINTS	20

struct known {			/* what a viewer of this block has that holds this id */
	uint32_t	 epoch;
	uint64_t	 version, hash;
};

struct viewer {
	int		 fd;		/* -1: away, until due */
	size_t		 block;		/* index */
	int64_t		 due_us;	/* comes again, or reads again; 0: neither */
	uint8_t		*seats;		/* letters A, H, O; 0: not known */
	uint64_t	 hash;		/* of all seats */
	uint32_t	 epoch;		/* of the last id; 0: none */
	uint64_t	 version;
	long		 retry_ms;
	long		 last_seat;	/* of this frame's updates */
	bool		 live, stalled, header, chunked;
	int		 status;
	size_t		 left;		/* bytes left of this chunk */
	char		 head[12];	/* of a chunk: its size in hexadecimal */
	size_t		 nhead;
	char		 event[8];
	char		*line;
	size_t		 nline, cap;
};

struct expected {
	long		 n;		/* its number; 0: free */
	size_t		 block, seat;
	char		 letter;
	int64_t		 since_us;
	uint8_t		*waits;		/* by viewer */
	size_t		 left, missing, ndelays;
	float		*delays;
};

static struct sockaddr_in	 to;
static size_t			 count, nblocks, nseats;
static int			 first_block, ep;
static double			 churn;
static const char		*path;
static struct viewer		*viewers;
static struct known		*known;
static struct expected		 expected[EXPECTED];
static struct {
	uint64_t connected, events, bytes, inits, resumed, busy, ended, cut, refused, errors, odd, stopped_asking;
} total;
static unsigned			 complaints;

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
	fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static size_t
pick(size_t below)
{
	return ((size_t)random() % below);
}

/* Something that must not be. */
static void __attribute__((format(printf, 2, 3)))
wrong(const struct viewer *v, const char *fmt, ...)
{
	va_list	ap;

	total.odd++;
	if (complaints++ >= COMPLAINTS)
		return;
	printf("wrong viewer %zu of block %zu, id %08x-%llu: ", (size_t)(v - viewers), first_block + v->block, (unsigned)v->epoch,
	    (unsigned long long)v->version);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* ---- what a viewer is told ---- */

/* The hash of all seats is the sum of these, so that a change costs two of them. */
static uint64_t
hash_seat(size_t seat, uint8_t letter)
{
	uint64_t	h = (seat * 3 + letter) * UINT64_C(0x9e3779b97f4a7c15);

	h = (h ^ h >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
	return (h ^ h >> 32);
}

static void
on_expected(size_t i, size_t seat, uint8_t letter)
{
	struct expected	*e;

	for (e = expected; e < expected + EXPECTED; e++)
		if (e->n != 0 && e->waits[i] && e->seat == seat && e->letter == (char)letter) {
			e->waits[i] = 0;
			e->left--;
			e->delays[e->ndelays++] = (float)(now_us() - e->since_us) / 1000;
		}
}

static void
set_seat(struct viewer *v, size_t seat, uint8_t letter)
{
	v->hash += hash_seat(seat, letter) - hash_seat(seat, v->seats[seat]);
	v->seats[seat] = letter;
	if (seat == nseats - 1)		/* the one that changes are expected of */
		on_expected((size_t)(v - viewers), seat, letter);
}

/* A seat's number in its block; -1: it is not of this block. */
static long
seat_index(const struct viewer *v, const char *text)
{
	long	i = strtol(text, NULL, 10) - 1 - (long)(v->block * nseats);

	return (i >= 0 && i < (long)nseats ? i : -1);
}

static void
on_init(struct viewer *v, const char *text)
{
	size_t	 n = 0;
	long	 i;

	total.inits++;
	for (; (text = strstr(text, "{\"id\":")) != NULL; n++) {
		text += 6;
		i = seat_index(v, text);
		text = strstr(text, "\"status\":\"");
		if (i != (long)n || text == NULL)
			break;
		set_seat(v, n, (uint8_t)text[10]);
	}
	if (n != nseats)
		wrong(v, "an init with %zu seats in order instead of %zu", n, nseats);
	v->version = 0;			/* of whatever run of a loop: it counts anew */
}

static void
on_update(struct viewer *v, const char *text)
{
	const char	*seat = strstr(text, "\"seatId\":"), *status = strstr(text, "\"status\":\"");
	long		 i = seat != NULL ? seat_index(v, seat + 9) : -1;

	if (i == -1 || status == NULL) {
		wrong(v, "an update of no seat of this block: %.80s", text);
		return;
	}
	if (v->epoch == 0)
		wrong(v, "an update before any init");
	if (i <= v->last_seat)
		wrong(v, "seat %ld after seat %ld in one frame", i, v->last_seat);
	v->last_seat = i;
	total.events++;
	set_seat(v, (size_t)i, (uint8_t)status[10]);
}

static void
on_id(struct viewer *v, const char *text)
{
	unsigned		 epoch = 0;
	unsigned long long	 version = 0;
	struct known		*k;

	if (sscanf(text, "%8x-%llu", &epoch, &version) != 2 || epoch == 0 || version == 0) {
		wrong(v, "no id: %.40s", text);
		return;
	}
	if (epoch == v->epoch && version <= v->version)
		wrong(v, "then id %08x-%llu", epoch, version);
	v->epoch = epoch;
	v->version = version;
	v->last_seat = -1;
	k = &known[v->block * KNOWN + version % KNOWN];
	if (k->epoch == epoch && k->version == version && k->hash != v->hash)
		wrong(v, "other seats than another viewer with this id");
	*k = (struct known){ epoch, version, v->hash };
}

static void
on_line(struct viewer *v, const char *line)
{
	if (line[0] == '\0')
		snprintf(v->event, sizeof(v->event), "message");
	else if (strncmp(line, "retry: ", 7) == 0)
		v->retry_ms = strtol(line + 7, NULL, 10);
	else if (strncmp(line, "event: ", 7) == 0) {
		snprintf(v->event, sizeof(v->event), "%s", line + 7);
		if (strcmp(v->event, "busy") != 0)
			v->live = true;
		else
			total.busy++;
	} else if (strncmp(line, "id: ", 4) == 0)
		on_id(v, line + 4);
	else if (strncmp(line, "data: ", 6) == 0) {
		if (strcmp(v->event, "init") == 0)
			on_init(v, line + 6);
		else if (strcmp(v->event, "update") == 0)
			on_update(v, line + 6);
	}
}

/* ---- HTTP: the header, then chunks (RFC 9112, 7.1) ---- */

static void
on_header_line(struct viewer *v, const char *line)
{
	if (strncmp(line, "HTTP/1.1 ", 9) == 0)
		v->status = atoi(line + 9);
	else if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0)
		v->chunked = true;
	else if (line[0] == '\0') {
		v->header = false;
		if (v->status != 200 && complaints++ < COMPLAINTS)
			printf("refused with %d\n", v->status);
	}
}

static void
on_text(struct viewer *v, const char *p, size_t n)
{
	for (; n > 0; p++, n--) {
		if (*p == '\r')
			continue;
		if (v->nline + 1 >= v->cap) {
			v->cap = v->cap > 0 ? v->cap * 2 : 256;
			if ((v->line = realloc(v->line, v->cap)) == NULL)
				die("realloc");
		}
		if (*p != '\n') {
			v->line[v->nline++] = *p;
			continue;
		}
		v->line[v->nline] = '\0';
		v->nline = 0;
		if (v->header)
			on_header_line(v, v->line);
		else if (v->status == 200)
			on_line(v, v->line);
		if (v->cap > 1024) {
			free(v->line);
			v->line = NULL;
			v->cap = 0;
		}
	}
}

static void
on_bytes(struct viewer *v, const char *p, size_t n)
{
	size_t	part;

	for (; n > 0; p += part, n -= part) {
		part = 1;
		if (v->header) {
			const char *end = memchr(p, '\n', n);

			part = end != NULL ? (size_t)(end - p) + 1 : n;
			on_text(v, p, part);
		} else if (!v->chunked) {
			part = n;
			on_text(v, p, part);
		} else if (v->left > 0) {
			part = n < v->left ? n : v->left;
			on_text(v, p, part);
			v->left -= part;
		} else if (*p == '\n' && v->nhead > 0) {
			v->head[v->nhead] = '\0';
			v->left = strtoul(v->head, NULL, 16);
			v->nhead = 0;
		} else if (*p != '\r' && *p != '\n' && v->nhead < sizeof(v->head) - 1)
			v->head[v->nhead++] = *p;
	}
}

/* ---- coming and going ---- */

static void
lost_for(size_t i)
{
	struct expected	*e;

	for (e = expected; e < expected + EXPECTED; e++)
		if (e->n != 0 && e->waits[i]) {
			e->waits[i] = 0;
			e->left--;
		}
}

/* Away, until in so many milliseconds. */
static void
leave(struct viewer *v, long ms)
{
	if (v->fd != -1) {
		close(v->fd);
		total.connected--;
	}
	v->fd = -1;
	v->live = v->stalled = false;
	v->due_us = now_us() + ms * 1000 + 1;
	lost_for((size_t)(v - viewers));
}

static void
forget(struct viewer *v)
{
	memset(v->seats, 0, nseats);
	v->hash = 0;
	v->epoch = 0;
	v->version = 0;
	v->block = pick(nblocks);
}

static void
come(struct viewer *v)
{
	struct epoll_event	 e = { EPOLLIN, { .ptr = v } };
	char			 where[256], id[64] = "", ask[512];
	int			 n;

	v->due_us = 0;
	v->header = true;
	v->chunked = false;
	v->status = 0;
	v->left = v->nhead = v->nline = 0;
	v->last_seat = -1;
	snprintf(v->event, sizeof(v->event), "message");
	snprintf(where, sizeof(where), path, first_block + (int)v->block);
	if (v->epoch != 0) {
		snprintf(id, sizeof(id), "Last-Event-ID: %08x-%llu\r\n", (unsigned)v->epoch, (unsigned long long)v->version);
		total.resumed++;
	}
	n = snprintf(ask, sizeof(ask), "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%s\r\n", where, id);
	if ((v->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1)
		die("socket");
	total.connected++;
	if (connect(v->fd, (struct sockaddr *)&to, sizeof(to)) == -1 || send(v->fd, ask, (size_t)n, MSG_NOSIGNAL) != n) {
		total.refused++;
		leave(v, 1000);
		return;
	}
	(void)fcntl(v->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, v->fd, &e) == -1)
		die("epoll_ctl");
}

/* The server has ended it: the browser comes again after a while, unless the answer was no stream at all. */
static void
on_end(struct viewer *v)
{
	if (v->header || v->left > 0)
		total.cut++;
	else
		total.ended++;
	if (v->status != 0 && v->status != 200)
		total.stopped_asking++;
	leave(v, v->retry_ms > 0 ? v->retry_ms : 2500);
}

static void
take(struct viewer *v)
{
	static char	bytes[256 * 1024];
	ssize_t		n = recv(v->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0) {
		total.bytes += (uint64_t)n;
		on_bytes(v, bytes, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		on_end(v);
}

static void
stall(struct viewer *v, long ms)
{
	if (v->fd == -1 || v->stalled)
		return;
	v->stalled = true;
	v->due_us = now_us() + ms * 1000;
	lost_for((size_t)(v - viewers));
	(void)epoll_ctl(ep, EPOLL_CTL_DEL, v->fd, NULL);
}

static void
read_again(struct viewer *v)
{
	struct epoll_event	 e = { EPOLLIN, { .ptr = v } };

	v->stalled = false;
	v->due_us = 0;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, v->fd, &e) == -1)
		die("epoll_ctl");
}

/* One leaves; half of them come again a little later with what they had, the others are somebody else. */
static void
churn_one(void)
{
	struct viewer	*v = &viewers[pick(count)];

	if (v->fd == -1 || v->stalled)
		return;
	leave(v, pick(2) ? 300 : 0);
	if (v->due_us <= now_us() + 1000)
		forget(v);
}

/* ---- orders ---- */

static int
by_size(const void *a, const void *b)
{
	float	x = *(const float *)a, y = *(const float *)b;

	return (x < y ? -1 : x > y);
}

static void
tell_delay(struct expected *e)
{
	size_t	n = e->ndelays;

	qsort(e->delays, n, sizeof(*e->delays), by_size);
	printf("delay %ld %zu %.1f %.1f %.1f %zu\n", e->n, n, (double)(n ? e->delays[n / 2] : 0), (double)(n ? e->delays[n * 99 / 100] : 0),
	    (double)(n ? e->delays[n - 1] : 0), e->left);
	e->n = 0;
}

static void
expect(long n, int block, size_t seat, char letter)
{
	struct expected	*e;
	size_t		 i;

	for (e = expected; e < expected + EXPECTED && e->n != 0; e++)
		;
	if (e == expected + EXPECTED)
		return;
	e->n = n;
	e->block = (size_t)(block - first_block);
	e->seat = seat;
	e->letter = letter;
	e->since_us = now_us();
	e->left = e->ndelays = 0;
	for (i = 0; i < count; i++) {
		e->waits[i] = viewers[i].live && !viewers[i].stalled && viewers[i].block == e->block && viewers[i].seats[seat] != (uint8_t)letter;
		e->left += e->waits[i];
	}
}

static void
look_at_expected(int64_t now)
{
	struct expected	*e;

	for (e = expected; e < expected + EXPECTED; e++)
		if (e->n != 0 && (e->left == 0 || now - e->since_us > PATIENCE_US))
			tell_delay(e);
}

static void
compare(const char *file)
{
	size_t	 size = nblocks * nseats, i, n = 0, different = 0, seen = 0;
	char	*truth = calloc(1, size + 1);
	FILE	*in = fopen(file, "r");

	if (truth == NULL || in == NULL || fread(truth, 1, size, in) != size)
		die(file);
	fclose(in);
	for (i = 0; i < count; i++) {
		struct viewer *v = &viewers[i];

		if (!v->live || v->stalled)
			continue;
		n++;
		if (memcmp(v->seats, truth + v->block * nseats, nseats) == 0)
			continue;
		different++;
		seen = first_block + v->block;
	}
	printf("compare %zu %zu %zu\n", n, different, seen);
	free(truth);
}

static void
tell_state(void)
{
	size_t	i, live = 0, stalled = 0;

	for (i = 0; i < count; i++) {
		live += viewers[i].live;
		stalled += viewers[i].stalled;
	}
	printf("state connected %llu live %zu stalled %zu events %llu bytes %llu inits %llu resumed %llu busy %llu ended %llu cut %llu"
	    " refused %llu odd %llu stopped_asking %llu\n", (unsigned long long)total.connected, live, stalled,
	    (unsigned long long)total.events, (unsigned long long)total.bytes, (unsigned long long)total.inits,
	    (unsigned long long)total.resumed, (unsigned long long)total.busy, (unsigned long long)total.ended,
	    (unsigned long long)total.cut, (unsigned long long)total.refused, (unsigned long long)total.odd,
	    (unsigned long long)total.stopped_asking);
}

static void
obey(char *line)
{
	long	n, ms, i;
	int	block;
	size_t	seat;
	char	letter;

	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, "state") == 0)
		tell_state();
	else if (sscanf(line, "stall %ld %ld", &n, &ms) == 2)
		for (i = 0; i < n; i++)
			stall(&viewers[pick(count)], ms);
	else if (sscanf(line, "herd %ld", &n) == 1)
		for (i = 0; i < n; i++)
			leave(&viewers[pick(count)], 0);
	else if (sscanf(line, "expect %ld %d %zu %c", &n, &block, &seat, &letter) == 4)
		expect(n, block, seat, letter);
	else if (sscanf(line, "forget %ld", &n) == 1) {
		for (i = 0; i < EXPECTED; i++)
			if (expected[i].n == n)
				expected[i].n = 0;
	} else if (strncmp(line, "compare ", 8) == 0)
		compare(line + 8);
	else
		printf("what? %s\n", line);
}

/* ---- */

static void
tick(int64_t now, int64_t *churned)
{
	size_t	i;

	for (i = 0; i < count; i++) {
		struct viewer *v = &viewers[i];

		if (v->due_us == 0 || v->due_us > now)
			continue;
		if (v->stalled)
			read_again(v);
		else
			come(v);
	}
	for (; churn > 0 && *churned + 1e6 / churn <= now; *churned += (int64_t)(1e6 / churn))
		churn_one();
	look_at_expected(now);
}

static void
serve(void)
{
	struct epoll_event	e[512];
	int64_t			churned = now_us() + 5000000, now;	/* all come first */
	char			line[512];
	int			i, n;

	for (;;) {
		if ((n = epoll_wait(ep, e, 512, 10)) == -1 && errno != EINTR)
			die("epoll_wait");
		for (i = 0; i < n; i++) {
			struct viewer *v = e[i].data.ptr;

			if (v == NULL) {
				if (fgets(line, sizeof(line), stdin) == NULL)
					return;
				obey(line);
			} else if (v->fd != -1 && !v->stalled)
				take(v);
		}
		now = now_us();
		tick(now, &churned);
	}
}

static void
start(size_t i)
{
	struct viewer	*v = &viewers[i];

	v->fd = -1;
	if ((v->seats = calloc(1, nseats)) == NULL)
		die("calloc");
	forget(v);
	v->block = i % nblocks;		/* each block has some from the start */
	v->due_us = now_us() + (int64_t)(4000000 * i / count) + 1;
}

int
main(int argc, char **argv)
{
	struct epoll_event	 e = { EPOLLIN, { .ptr = NULL } };
	struct rlimit		 rl;
	size_t			 i;

	if (argc != 8 || sscanf(argv[3], "%d:%zu", &first_block, &nblocks) != 2) {
		fprintf(stderr, "usage: crowd PORT COUNT FIRST:BLOCKS SEATS CHURN SEED PATH\n");
		return (2);
	}
	to.sin_family = AF_INET;
	to.sin_port = htons((uint16_t)atoi(argv[1]));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	count = strtoul(argv[2], NULL, 10);
	nseats = strtoul(argv[4], NULL, 10);
	churn = strtod(argv[5], NULL);
	srandom((unsigned)strtoul(argv[6], NULL, 10));
	path = argv[7];
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	if (count == 0 || nblocks == 0 || nseats == 0 || (viewers = calloc(count, sizeof(*viewers))) == NULL ||
	    (known = calloc(nblocks * KNOWN, sizeof(*known))) == NULL || (ep = epoll_create1(EPOLL_CLOEXEC)) == -1 ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, 0, &e) == -1)
		die("start");
	for (i = 0; i < EXPECTED; i++)
		if ((expected[i].waits = calloc(count, 1)) == NULL || (expected[i].delays = calloc(count, sizeof(float))) == NULL)
			die("start");
	for (i = 0; i < count; i++)
		start(i);
	serve();
	return (0);
}
