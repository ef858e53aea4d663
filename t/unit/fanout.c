/* SPDX-License-Identifier: ISC */
/*
 * fanout: random changes of a match for viewers of different views, who read at
 * their own pace, leave in the middle and come back with their last id, for the
 * same, for less and for more; while now and then memory is missing.  Against the
 * whole history of the match.  Whoever reads bytes from the sockets plays the browser.
 *
 * What must hold after each event, for each cell of a view, that is each seat and
 * each block's counts (SPEC 2, 2a):
 *	what is shown was so at some version, never an older one than shown before;
 *	who has an id has everything up to it;
 * and when a viewer has read all there is: it shows what is so now, and its id
 * is the current one.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "loop/fanout.h"
#include "loop/frames.h"
#include "loop/poller.h"
#include "shared/board.h"
#include "unit.h"

#define SEATS		500		/* ids 1 to SEATS; some are not there at times */
#define BLOCKS		3		/* 1 to BLOCKS; the last is not there at times */
#define BLOCK_OF(id)	(1 + (id) % BLOCKS)
#define CELLS		(SEATS + BLOCKS + 1)	/* seats by id, then counts */
#define COUNTS(block)	(SEATS + (block))
#define VERSIONS	400
#define VIEWERS		6
#define STEPS		250
#define EPOCH		0xabcdu
#define ABSENT		(-1)
#define UNKNOWN		(-2)		/* not shown, though the view has it */
#define SNDBUF		4096

/* The poller that fanout asks: a match whose history is known. */
struct poller {
	struct seat_map	*seats;
	bool		 away;		/* nothing to show yet */
	bool		 stale;
};
const struct seat_map *poller_seats(const struct poller *f) { return (f->seats); }
bool poller_has_state(const struct poller *f) { return (!f->away); }
bool poller_is_current(const struct poller *f) { return (!f->away && !f->stale); }
bool poller_is_stale(const struct poller *f) { return (f->stale); }
int64_t poller_as_of_ms(const struct poller *f) { (void)f; return (INT64_C(1700000000000)); }
int64_t poller_age_ms(const struct poller *f) { (void)f; return (4321); }

struct browser {
	int		 fd;			/* -1: away */
	bool		 refused;		/* closed: there was no memory to adopt it */
	struct view	 view;
	uint16_t	 request_id;
	unsigned char	 raw[65536];		/* FastCGI records not yet whole */
	size_t		 nraw;
	char		 text[131072];		/* of the stream, not yet a whole block of lines */
	size_t		 ntext;
	bool		 head_seen;
	unsigned	 epoch;			/* of its id … */
	struct view	 id_view;		/* … which was given to this view */
	uint64_t	 id;			/* version; 0: none */
	int		 shown[CELLS];		/* enum seat_status, or counts; ABSENT, UNKNOWN */
	uint64_t	 at[CELLS];		/* the earliest version at which that can have been so */
	bool		 stale;
	bool		 resumed;		/* it came with an id that must be good: no init is due */
	uint64_t	 layout;		/* as it was then */
	unsigned	 inits;
};

struct world {
	struct ev_loop		*ev;
	struct board		*board;
	struct board_slot	*slot;
	struct opts		 opts;
	struct poller		 poller;
	struct fanout		*fanout;
	uint64_t		 number;
	bool			 gone[STEPS + VIEWERS + 100];	/* by number */
	uint64_t		 ngone;
	uint64_t		 layout;	/* version that last added or removed seats */
	uint64_t		 random;
	int			 history[VERSIONS + 1][CELLS];
	struct browser		 browser[VIEWERS];
};

static struct world w;

static uint64_t
below(uint64_t n)
{
	return (unit_random(&w.random, n));
}

static uint64_t
now(void)
{
	return (seat_version(w.poller.seats));
}

/* --- memory that is missing in the fan-out: one call in so many fails (0: none); the linker puts these in place */

static uint64_t	 scarce;
static bool	 inside;		/* the fan-out, and not this program */
static bool	 room_to_send;		/* what the kernel needs it has */

#define IN_FANOUT(call)	do { inside = true; call; inside = false; } while (0)

static bool
is_missing(void)
{
	return (inside && scarce != 0 && below(scarce) == 0);
}

void	*__real_malloc(size_t size);
void	*__real_calloc(size_t n, size_t size);
void	*__real_realloc(void *p, size_t size);
ssize_t	 __real_send(int fd, const void *bytes, size_t len, int flags);
void	*__wrap_malloc(size_t size);
void	*__wrap_calloc(size_t n, size_t size);
void	*__wrap_realloc(void *p, size_t size);
ssize_t	 __wrap_send(int fd, const void *bytes, size_t len, int flags);
ssize_t	 __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t	 __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);

void *__wrap_malloc(size_t size) { return (is_missing() ? NULL : __real_malloc(size)); }
void *__wrap_calloc(size_t n, size_t size) { return (is_missing() ? NULL : __real_calloc(n, size)); }
void *__wrap_realloc(void *p, size_t size) { return (is_missing() ? NULL : __real_realloc(p, size)); }

ssize_t
__wrap_send(int fd, const void *bytes, size_t len, int flags)
{
	if (!room_to_send && is_missing()) {
		errno = below(2) ? ENOBUFS : ENOMEM;
		return (-1);
	}
	return (__real_send(fd, bytes, len, flags));
}

/* What a stream begins with, in two pieces.  One connection in eight takes only some of the first, one not all of the second. */
ssize_t
__wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct iovec	 iov[2] = { msg->msg_iov[0], msg->msg_iov[1] };
	struct msghdr	 some = { .msg_iov = iov, .msg_iovlen = 2 };

	if (is_missing()) {
		errno = below(2) ? ENOBUFS : ENOMEM;
		return (-1);
	}
	switch (below(8)) {
	case 0:
		some.msg_iovlen = 1;
		iov[0].iov_len = 1 + below(iov[0].iov_len);
		break;
	case 1:
		iov[1].iov_len = below(iov[1].iov_len);
		break;
	}
	return (__real_sendmsg(fd, &some, flags));
}

/* --- the database ----------------------------------------------------------- */

static int
counts_value(const struct seat_block *b)
{
	return ((int)(b->counts[SEAT_AVAILABLE] * 1000000 + b->counts[SEAT_HOLD] * 1000 + b->counts[SEAT_OCCUPIED]));
}

static void
remember(void)
{
	size_t	 i;
	uint64_t v = now();

	ck_assert_uint_le(v, VERSIONS);
	for (i = 0; i < CELLS; i++)
		w.history[v][i] = ABSENT;
	for (i = 0; i < seat_count(w.poller.seats); i++)
		w.history[v][seat_at(w.poller.seats, i)->id] = (int)seat_at(w.poller.seats, i)->status;
	for (i = 0; i < seat_block_count(w.poller.seats); i++) {
		const struct seat_block *b = seat_block_at(w.poller.seats, i);

		w.history[v][COUNTS(b->id)] = counts_value(b);
		if (b->layout_version == v || seat_blocks_version(w.poller.seats) == v)
			w.layout = v;
	}
}

static void
apply(enum seat_batch kind, const struct seat_row *rows, size_t n)
{
	struct seat_outcome	out;
	uint64_t		before = now();

	ck_assert_int_eq(seat_apply(w.poller.seats, kind, rows, n, 0, &out), 0);
	if (now() == before)
		return;
	remember();
	IN_FANOUT(fanout_publish(w.fanout));
}

static struct seat_row
row_of(int64_t id)
{
	return ((struct seat_row){ BLOCK_OF(id), id, SEAT_NO_EXPIRY, (enum seat_status)below(3) });
}

/* A poll: one seat, some, or nearly all of them. */
static void
change_some(void)
{
	static struct seat_row	rows[SEATS];
	const size_t		most[] = { 1, 10, 200, SEATS };
	size_t			n = 1 + below(most[below(4)]), i;

	for (i = 0; i < n; i++)
		rows[i] = row_of(1 + (int64_t)below(SEATS));
	apply(SEAT_CHANGES, rows, n);
}

/* A reconcile of a match that has other seats now. */
static void
change_layout(void)
{
	static struct seat_row	rows[SEATS];
	size_t			n = 0;
	int64_t			id, away = (int64_t)below(SEATS), away_block = below(3) == 0 ? BLOCKS : 0;

	for (id = 1; id <= SEATS; id++)
		if (id % 7 != away % 7 && BLOCK_OF(id) != away_block)
			rows[n++] = row_of(id);
	apply(SEAT_SNAPSHOT, rows, n);
}

/* --- the browsers ----------------------------------------------------------- */

static bool
sees(const struct view *v, int64_t cell)
{
	size_t i;

	if (cell > SEATS)
		return (v->kind == VIEW_MATCH);
	for (i = 0; i < v->nblocks; i++)
		if (v->blocks[i] == BLOCK_OF(cell))
			return (true);
	return (false);
}

/* The first version from at on at which the cell was so; 0: none. */
static uint64_t
so_from(int64_t cell, int value, uint64_t at)
{
	uint64_t v;

	for (v = at > 0 ? at : 1; v <= now(); v++)
		if (w.history[v][cell] == value)
			return (v);
	return (0);
}

static void
show(struct browser *b, int64_t cell, int value)
{
	uint64_t v = so_from(cell, value, b->at[cell]);

	ck_assert_msg(sees(&b->view, cell), "cell %lld is not in the view", (long long)cell);
	ck_assert_msg(v != 0, "cell %lld: %d is older than what was shown (version %llu)", (long long)cell, value,
	    (unsigned long long)b->at[cell]);
	b->shown[cell] = value;
	b->at[cell] = v;
}

/* "status":"HOLD"} */
static int
status_in(const char *text)
{
	enum seat_status	s;
	char			name[16];

	ck_assert_int_eq(sscanf(text, "\"status\":\"%15[A-Z]\"}", name), 1);
	ck_assert_int_eq(seat_status_parse(name, strlen(name), &s), 0);
	return ((int)s);
}

/* "available":1,"hold":2,"occupied":3} */
static int
counts_in(const char *text)
{
	struct seat_block b;

	ck_assert_int_eq(sscanf(text, "\"available\":%u,\"hold\":%u,\"occupied\":%u}", &b.counts[SEAT_AVAILABLE],
	    &b.counts[SEAT_HOLD], &b.counts[SEAT_OCCUPIED]), 3);
	return (counts_value(&b));
}

/* ,"blockId":1 where the view's bytes have it.  Returns what follows the comma after it. */
static const char *
skip_block_id(const struct browser *b, int64_t seat, const char *p)
{
	long long block;

	ck_assert_int_eq(*p++, ',');
	if (b->view.kind == VIEW_MATCH) {
		ck_assert_int_eq(sscanf(p, "\"blockId\":%lld,", &block), 1);
		ck_assert_int_eq(block, BLOCK_OF(seat));
		p = strchr(p, ',') + 1;
	}
	return (p);
}

static void
take_init(struct browser *b, const char *data, uint64_t id)
{
	const char	*p, *seats = strstr(data, "\"seats\":[");
	long long	 cell;
	int64_t		 i;

	b->inits++;
	ck_assert_ptr_nonnull(seats);
	for (i = 0; i < CELLS; i++)
		b->shown[i] = ABSENT;
	for (p = strstr(data, "{\"id\":"); p != NULL && p < seats; p = strstr(p, "{\"id\":")) {
		ck_assert_int_eq(sscanf(p, "{\"id\":%lld,", &cell), 1);
		p = strchr(p, ',') + 1;
		b->shown[COUNTS(cell)] = counts_in(p);
	}
	for (p = seats; (p = strstr(p, "{\"id\":")) != NULL; ) {
		ck_assert_int_eq(sscanf(p, "{\"id\":%lld,", &cell), 1);
		p = skip_block_id(b, cell, p + strcspn(p, ","));
		b->shown[cell] = status_in(p);
	}
	for (i = 1; i < CELLS; i++) {
		if (!sees(&b->view, i))
			continue;
		ck_assert_msg(w.history[id][i] == b->shown[i], "init of version %llu: cell %lld shows %d", (unsigned long long)id,
		    (long long)i, b->shown[i]);
		ck_assert_msg(b->at[i] <= id || so_from(i, b->shown[i], b->at[i]) != 0, "init is older than what was shown");
		if (b->at[i] < id)
			b->at[i] = id;
	}
	ck_assert_msg(!b->resumed || b->layout != w.layout, "init for who had only to be told what changed");
	b->resumed = false;
}

/* Who has an id has everything up to it. */
static void
take_id(struct browser *b, unsigned epoch, uint64_t id)
{
	uint64_t	v;
	int64_t		i;

	ck_assert_msg(id >= b->id && id <= now(), "id %llu after %llu", (unsigned long long)id, (unsigned long long)b->id);
	b->id = id;
	b->epoch = epoch;
	b->id_view = b->view;
	for (i = 1; i < CELLS; i++) {
		if (!sees(&b->view, i))
			continue;
		v = so_from(i, b->shown[i], b->at[i] > id ? b->at[i] : id);
		ck_assert_msg(v != 0, "id %llu: cell %lld shows %d, which it was not any more", (unsigned long long)id,
		    (long long)i, b->shown[i]);
		b->at[i] = v;
	}
}

/* One block of lines of the stream. */
static void
take_block(struct browser *b, char *block)
{
	char			*line, *rest = NULL, *event = NULL, *data = NULL;
	unsigned		 epoch = 0;
	unsigned long long	 id = 0;
	long long		 cell;

	for (line = strtok_r(block, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		if (strncmp(line, "event: ", 7) == 0)
			event = line + 7;
		else if (strncmp(line, "data: ", 6) == 0)
			data = line + 6;
		else if (strncmp(line, "id: ", 4) == 0)
			ck_assert_int_eq(sscanf(line, "id: %8x-%llu", &epoch, &id), 2);
		else
			ck_assert_msg(strncmp(line, "retry: ", 7) == 0, "what is this: %s", line);
	if (event == NULL)
		return;
	ck_assert_ptr_nonnull(data);
	ck_assert_msg(id == 0 || (epoch >= EPOCH && epoch < EPOCH + 2 * VIEWERS + STEPS), "an id of nobody's");
	if (strcmp(event, "init") == 0)
		take_init(b, data, id);
	else if (strcmp(event, "update") == 0) {
		ck_assert_int_eq(sscanf(data, "{\"status\":200,\"data\":{\"seatId\":%lld,", &cell), 1);
		data = strstr(data, "\"seatId\"");
		show(b, cell, status_in(skip_block_id(b, cell, data + strcspn(data, ","))));
	} else if (strcmp(event, "count") == 0) {
		ck_assert_int_eq(sscanf(data, "{\"status\":200,\"data\":{\"blockId\":%lld,", &cell), 1);
		show(b, COUNTS(cell), counts_in(strstr(data, "\"available\"")));
	} else if (strcmp(event, "stale") == 0 || strcmp(event, "fresh") == 0)
		b->stale = event[0] == 's';
	else
		ck_assert_str_eq(event, "beat");
	if (id != 0)
		take_id(b, epoch, id);
}

static void
take_text(struct browser *b)
{
	char	*end;
	size_t	 n;

	b->text[b->ntext] = '\0';
	if (!b->head_seen && (end = strstr(b->text, "\r\n\r\n")) != NULL) {
		ck_assert_ptr_nonnull(strstr(b->text, "Content-Type: text/event-stream"));
		n = (size_t)(end - b->text) + 4;
		memmove(b->text, b->text + n, b->ntext - n + 1);
		b->ntext -= n;
		b->head_seen = true;
	}
	while (b->head_seen && (end = strstr(b->text, "\n\n")) != NULL) {
		n = (size_t)(end - b->text) + 2;
		end[1] = '\0';
		take_block(b, b->text);
		memmove(b->text, b->text + n, b->ntext - n + 1);
		b->ntext -= n;
	}
}

static void
take_records(struct browser *b)
{
	size_t len, padding;

	while (b->nraw >= 8) {
		len = (size_t)b->raw[4] << 8 | b->raw[5];
		padding = b->raw[6];
		if (b->nraw < 8 + len + padding)
			break;
		ck_assert_int_eq(b->raw[0], 1);
		ck_assert_int_eq(b->raw[1], 6);		/* STDOUT: nobody ends a request here */
		ck_assert_int_eq(b->raw[2] << 8 | b->raw[3], b->request_id);
		ck_assert_uint_gt(len, 0);
		ck_assert_uint_lt(b->ntext + len, sizeof(b->text));
		memcpy(b->text + b->ntext, b->raw + 8, len);
		b->ntext += len;
		b->nraw -= 8 + len + padding;
		memmove(b->raw, b->raw + 8 + len + padding, b->nraw);
		take_text(b);
	}
}

static void
leave(struct browser *b)
{
	fd_close(&b->fd);
}

/* Read up to that many bytes. */
static ssize_t
browse(struct browser *b, size_t most)
{
	ssize_t n;

	if (b->fd == -1)
		return (0);
	if (most > sizeof(b->raw) - b->nraw)
		most = sizeof(b->raw) - b->nraw;
	if ((n = recv(b->fd, b->raw + b->nraw, most, MSG_DONTWAIT)) == -1) {
		ck_assert(errno == EAGAIN || errno == EWOULDBLOCK);
		return (0);
	}
	if (n == 0 && b->refused) {
		leave(b);
		return (0);
	}
	ck_assert_msg(n > 0, "a viewer was closed");
	b->nraw += (size_t)n;
	take_records(b);
	return (n);
}

static struct view
some_view(void)
{
	struct view	v;
	int64_t		block;

	memset(&v, 0, sizeof(v));
	v.kind = below(3) == 0 ? VIEW_BLOCK : VIEW_MATCH;
	if (v.kind == VIEW_BLOCK)
		v.blocks[v.nblocks++] = 1 + (int64_t)below(BLOCKS);
	else
		for (block = 1; block <= BLOCKS; block++)
			if (below(2) == 0)
				v.blocks[v.nblocks++] = block;
	return (v);
}

/* Look at something else: what was not seen before is not known. */
static void
choose(struct browser *b, const struct view *v)
{
	bool	fewer = b->id_view.kind == v->kind;
	int64_t	i;

	for (i = 1; i < CELLS; i++) {
		if (!sees(v, i))
			continue;
		fewer &= sees(&b->id_view, i);
		if (sees(&b->view, i))
			continue;
		b->shown[i] = UNKNOWN;
		b->at[i] = 0;
	}
	b->resumed = fewer && b->id != 0 && b->id >= w.layout;
	b->layout = w.layout;
	b->view = *v;
}

/* With what it has: what was shown stays, the id says what is complete. */
static void
come(struct browser *b)
{
	struct chan_handover	h;
	struct view		v = below(2) == 0 || b->id == 0 ? some_view() : b->view;
	int			fds[2], size = SNDBUF, rc;

	memset(&h, 0, sizeof(h));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	choose(b, &v);
	b->fd = fds[0];
	b->nraw = b->ntext = 0;
	b->head_seen = b->stale = b->refused = false;
	b->request_id = below(8) == 0 ? 7 : 1;
	h.view = v;
	h.request_id = b->request_id;
	h.kind = CHAN_STREAM;
	h.accepted_ms = mono_ms();
	if (b->id != 0)
		h.resume = (struct stream_id){ b->epoch, b->id };
	IN_FANOUT(rc = fanout_attach(w.fanout, &h, fds[1], ++w.number));
	if (rc == -1) {
		ck_assert_uint_ne(scarce, 0);
		w.gone[w.number] = true;
		w.ngone++;
		b->refused = true;
	}
}

/* --- the tests -------------------------------------------------------------- */

static void
on_idle(void *arg)
{
	(void)arg;
}

/* Each connection that came is told of once, when it has ended. */
static void
on_gone(void *arg, uint64_t number)
{
	(void)arg;
	inside = false;
	ck_assert(number >= 1 && number <= w.number);
	ck_assert_msg(!w.gone[number], "hand-over %llu has ended twice", (unsigned long long)number);
	w.gone[number] = true;
	w.ngone++;
	inside = true;
}

static void
begin(uint64_t seed)
{
	size_t i;

	memset(&w, 0, sizeof(w));
	w.random = seed;
	w.opts.heartbeat_ms = w.opts.stall_timeout_ms = 3600000;
	ck_assert_ptr_nonnull(w.ev = ev_loop_new(EVFLAG_AUTO));
	ck_assert_ptr_nonnull(w.board = board_new(1, NULL));
	ck_assert_ptr_nonnull(w.slot = board_claim(w.board, BOARD_LOOP, 1, 0));
	ck_assert_ptr_nonnull(w.poller.seats = seat_map_new());
	ck_assert_ptr_nonnull(w.fanout = fanout_new(w.ev, &w.opts, w.slot, &w.poller, EPOCH, on_idle, on_gone, NULL));
	change_layout();
	for (i = 0; i < VIEWERS; i++)
		w.browser[i].fd = -1;
}

static void
end(void)
{
	size_t i;

	IN_FANOUT(fanout_free(&w.fanout));
	ck_assert_uint_eq(w.ngone, w.number);
	for (i = 0; i < VIEWERS; i++)
		fd_close(&w.browser[i].fd);
	seat_map_free(&w.poller.seats);
	ev_loop_destroy(w.ev);
}

/* What the loop does with sockets that became readable or writable. */
static void
turn(void)
{
	IN_FANOUT(ev_run(w.ev, EVRUN_NOWAIT));
}

static void
step(void)
{
	struct browser	*b = &w.browser[below(VIEWERS)];
	size_t		 i;

	switch (below(16)) {
	case 0:
		if (b->fd == -1)
			come(b);
		else
			leave(b);
		break;
	case 1:
		if (below(4) == 0)
			change_layout();
		break;
	case 2:
		w.poller.stale = !w.poller.stale;
		IN_FANOUT(fanout_freshness(w.fanout));
		break;
	case 3: case 4: case 5: case 6: case 7:
		change_some();
		break;
	default:
		/* the first reads all there is, the others less and less */
		for (i = 0; i < VIEWERS; i++)
			if (below(i + 1) == 0)
				(void)browse(&w.browser[i], i == 0 ? SIZE_MAX : 1 + below(6000));
	}
	turn();
}

/* The first cell that shows something else than what is so now; 0: none does. */
static int64_t
wrong_cell(const struct browser *b)
{
	int64_t i;

	for (i = 1; i < CELLS; i++)
		if (sees(&b->view, i) && b->shown[i] != w.history[now()][i])
			return (i);
	return (0);
}

static void
read_all(struct browser *b)
{
	int64_t deadline_ms = mono_ms() + 20000, cell;

	while ((wrong_cell(b) != 0 || b->stale != w.poller.stale) && mono_ms() < deadline_ms) {
		if (browse(b, SIZE_MAX) == 0)
			usleep(1000);
		turn();
	}
	ck_assert_uint_ne(b->id, 0);
	if ((cell = wrong_cell(b)) != 0)
		ck_abort_msg("at the end cell %lld shows %d, it is %d", (long long)cell, b->shown[cell], w.history[now()][cell]);
	ck_assert_int_eq(b->stale, w.poller.stale);
}

/* Every second time memory is missing, more and more often. */
START_TEST(a_viewer_misses_nothing_however_it_reads)
{
	unsigned	scarce_one_in = _i % 2 == 0 ? 0 : 400 / (unsigned)_i;
	size_t		i;

	begin(unit_seed(_i));
	scarce = scarce_one_in;
	for (i = 0; i < STEPS && now() < VERSIONS - VIEWERS; i++)
		step();
	scarce = 0;
	change_some();			/* and who was to get something then, gets it */
	for (i = 0; i < VIEWERS; i++) {
		(void)browse(&w.browser[i], 1);
		if (w.browser[i].fd == -1)
			come(&w.browser[i]);
	}
	change_some();
	for (i = 0; i < VIEWERS; i++)
		read_all(&w.browser[i]);
	ck_assert_msg(scarce_one_in > 0 || board_get(w.slot, BOARD_conflations) > 0, "nobody was slow: this tests nothing");
	end();
}
END_TEST

/* --- answers that end, and those who wait ------------------------------------- */

/* A request that is handed over.  Returns our end of its connection. */
static int
request(enum chan_kind kind, const struct view *v, struct chan_handover *h)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	h->kind = (uint8_t)kind;
	h->view = *v;
	h->sse = kind == CHAN_STREAM;
	if (h->request_id == 0)
		h->request_id = 1;
	if (h->accepted_ms == 0)
		h->accepted_ms = mono_ms();
	ck_assert_int_eq(fanout_attach(w.fanout, h, fds[1], ++w.number), 0);
	return (fds[0]);
}

/* What has come on it up to now, without the framing. */
static const char *
answer(int fd)
{
	static char	 text[65536];
	unsigned char	 raw[65536], *p = raw;
	ssize_t		 n = recv(fd, raw, sizeof(raw), MSG_DONTWAIT);
	size_t		 len = 0, content;

	for (; n >= 8 && p[1] == 6; p += 8 + content + p[6], n -= (ssize_t)(8 + content + p[6])) {
		content = (size_t)p[4] << 8 | p[5];
		memcpy(text + len, p + 8, content);
		len += content;
	}
	text[len] = '\0';
	return (text);
}

static const struct view	 block_1 = { VIEW_BLOCK, 1, { 1 } };
static const struct view	 counts = { VIEW_MATCH, 0, { 0 } };

START_TEST(a_snapshot_says_what_it_is_and_how_old)
{
	struct chan_handover	 h = { .request_id = 1 }, same, head = { .head = 1 };
	const char		*text, *body;
	char			 tag[64];
	int			 fd;

	begin(1);
	fd = request(CHAN_SNAPSHOT, &counts, &h);
	text = answer(fd);
	fd_close(&fd);
	ck_assert_ptr_nonnull(body = strstr(text, "\r\n\r\n"));
	ck_assert_int_eq(strncmp(body + 4, "{\"status\":200,\"data\":{\"blocks\":[{\"id\":1,\"available\":", 52), 0);
	ck_assert_ptr_null(strstr(body, "seats"));
	ck_assert_ptr_nonnull(strstr(text, "Cache-Control: public, max-age=1, stale-while-revalidate=5\r\n"));
	ck_assert_ptr_nonnull(strstr(text, "As-Of: 2023-11-14T22:13:20.000Z\r\n"));
	ck_assert_msg(strstr(text, "Age:") == NULL, "no age as long as the database is there");
	ck_assert_int_eq(sscanf(strstr(text, "ETag: "), "ETag: %63s\r\n", tag), 1);
	same = (struct chan_handover){ .request_id = 7 };
	snprintf(same.if_none_match, sizeof(same.if_none_match), "W/%s", tag);
	w.poller.stale = true;
	fd = request(CHAN_SNAPSHOT, &counts, &same);
	text = answer(fd);
	fd_close(&fd);
	ck_assert_int_eq(strncmp(text, "Status: 304", 11), 0);
	ck_assert_ptr_nonnull(strstr(text, tag));
	ck_assert_msg(strstr(text, "Age: 4\r\nCache-Control: public, max-age=5\r\n") != NULL, "stale: no longer than a second more");
	fd = request(CHAN_SNAPSHOT, &block_1, &head);
	text = answer(fd);
	fd_close(&fd);
	ck_assert_int_eq(strncmp(text, "Status: 200", 11), 0);
	ck_assert_ptr_nonnull(strstr(text, "Content-Length: "));
	ck_assert_msg(strlen(strstr(text, "\r\n\r\n")) == 4, "HEAD has no body");
	ck_assert_ptr_null(strstr(text, tag));
	ck_assert_uint_eq(fanout_count(w.fanout), 0);
	end();
}
END_TEST

START_TEST(changes_since_an_id)
{
	static const struct seat_row	 two[] = { { 1, 3, SEAT_NO_EXPIRY, SEAT_HOLD }, { 2, 1, SEAT_NO_EXPIRY, SEAT_HOLD } };
	static const struct seat_row	 other[] = { { 1, 3, SEAT_NO_EXPIRY, SEAT_OCCUPIED }, { 2, 1, SEAT_NO_EXPIRY, SEAT_OCCUPIED } };
	struct chan_handover		 h = { .request_id = 1 };
	const char			*body;
	char				 want[256];
	int				 fd, id;

	begin(1);
	apply(SEAT_SNAPSHOT, two, 2);
	for (id = 0; id < 4; id++) {
		/* none, one of ours, one that is current, one of another run */
		h.resume = id == 0 ? (struct stream_id){ 0, 0 } : id == 3 ? (struct stream_id){ EPOCH - 1, 2 } :
		    (struct stream_id){ EPOCH, now() };
		if (id == 1)
			apply(SEAT_CHANGES, other, 2);
		h.accepted_ms = 0;
		fd = request(CHAN_CHANGES, &block_1, &h);
		ck_assert_ptr_nonnull(body = strstr(answer(fd), "\r\n\r\n"));
		fd_close(&fd);
		snprintf(want, sizeof(want), "{\"status\":200,\"data\":{\"id\":\"%08x-%d\",\"asOf\":\"2023-11-14T22:13:20.000Z\",\"seats\":[%s", EPOCH,
		    (int)now(), id == 0 ? "{\"id\":3,\"status\":\"HOLD\"}],\"full\":true}}" : id == 1 ?
		    "{\"id\":3,\"status\":\"OCCUPIED\"}]}}" : id == 2 ? "]}}" : "{\"id\":3,\"status\":\"OCCUPIED\"}],\"full\":true}}");
		ck_assert_str_eq(body + 4, want);
	}
	end();
}
END_TEST

/* In a drain, and after five seconds, who can't be served for lack of memory is told so. */
START_TEST(without_memory_who_waits_is_told)
{
	struct chan_handover	 now_h = { .request_id = 1 }, long_ago = now_h, plain = now_h;
	int			 fds[3], i;

	begin(1);
	w.poller.away = true;
	fds[0] = request(CHAN_STREAM, &block_1, &now_h);
	w.poller.away = false;
	room_to_send = true;
	scarce = 1;
	IN_FANOUT(fanout_serve_waiting(w.fanout));
	ck_assert_msg(answer(fds[0])[0] == '\0', "not at once: there may be memory in a moment");
	IN_FANOUT(fanout_drain(w.fanout, 0));
	ck_assert_ptr_nonnull(strstr(answer(fds[0]), "event: busy\n"));
	scarce = 0;
	end();

	begin(1);
	w.poller.away = true;
	long_ago.accepted_ms = plain.accepted_ms = mono_ms() - 4999;
	fds[1] = request(CHAN_STREAM, &block_1, &long_ago);
	fds[2] = request(CHAN_SNAPSHOT, &block_1, &plain);
	w.poller.away = false;
	usleep(2000);
	scarce = 1;
	IN_FANOUT(fanout_serve_waiting(w.fanout));
	ck_assert_ptr_nonnull(strstr(answer(fds[1]), "event: busy\n"));
	ck_assert_ptr_nonnull(strstr(answer(fds[2]), "Status: 503"));
	scarce = 0;
	room_to_send = false;
	end();
	for (i = 0; i < 3; i++)
		fd_close(&fds[i]);
}
END_TEST

/* The master lets go of all connections up to the number that has begun. */
START_TEST(who_waits_has_not_begun)
{
	struct chan_handover	 early = { .request_id = 1 }, late = early;
	int			 fds[3], i;
	int64_t			 deadline_ms;

	begin(1);
	w.poller.away = true;
	early.accepted_ms = mono_ms() - 3500;
	fds[0] = request(CHAN_STREAM, &block_1, &early);
	fds[1] = request(CHAN_SNAPSHOT, &counts, &late);
	fds[2] = request(CHAN_STREAM, &counts, &late);
	ck_assert_int_eq(board_get(w.slot, BOARD_begun), 0);
	for (deadline_ms = mono_ms() + 5000; board_get(w.slot, BOARD_begun) == 0 && mono_ms() < deadline_ms; turn())
		;
	ck_assert_int_eq(board_get(w.slot, BOARD_begun), 1);
	ck_assert_ptr_nonnull(strstr(answer(fds[0]), "event: busy"));
	ck_assert_str_eq(answer(fds[1]), "");
	ck_assert_str_eq(answer(fds[2]), "");
	ck_assert_uint_eq(fanout_count(w.fanout), 2);
	w.poller.away = false;
	fanout_serve_waiting(w.fanout);
	ck_assert_int_eq(board_get(w.slot, BOARD_begun), 3);
	ck_assert_ptr_nonnull(strstr(answer(fds[1]), "\"blocks\":["));
	ck_assert_ptr_nonnull(strstr(answer(fds[2]), "event: init"));
	for (i = 0; i < 3; i++)
		fd_close(&fds[i]);
	end();
}
END_TEST

/* A stream that gives way ends politely; one that waits, when its turn comes, and what is behind it has not begun by that. */
START_TEST(who_gives_way_is_told)
{
	struct chan_handover	 h = { .request_id = 1 };
	int			 fds[3], i;

	begin(1);
	for (i = 0; i < 3; i++) {
		h.accepted_ms = 0;
		fds[i] = request(CHAN_STREAM, &block_1, &h);
		w.poller.away = true;		/* the first is live, two wait */
		if (i == 0)
			ck_assert_ptr_nonnull(strstr(answer(fds[0]), "event: init"));
	}
	fanout_give_way(w.fanout, 1);
	ck_assert_ptr_nonnull(strstr(answer(fds[0]), "retry: "));
	fanout_give_way(w.fanout, 1);		/* it has ended meanwhile */
	fanout_give_way(w.fanout, 2);
	ck_assert_int_eq(board_get(w.slot, BOARD_begun), 1);
	ck_assert_str_eq(answer(fds[1]), "");
	w.poller.away = false;
	fanout_serve_waiting(w.fanout);
	ck_assert_int_eq(board_get(w.slot, BOARD_begun), 3);
	ck_assert_ptr_nonnull(strstr(answer(fds[1]), "event: busy"));
	ck_assert_ptr_nonnull(strstr(answer(fds[2]), "event: init"));
	fanout_give_way(w.fanout, 2);		/* no more there, or at its end: nothing of it */
	fanout_give_way(w.fanout, 4);
	for (i = 0; i < 3; i++)
		fd_close(&fds[i]);
	end();
}
END_TEST

/* However many come at once, and with each change: a frame for each view. */
/* Ids outlive their viewers, but not without end; and none is ever of epoch 0, which is nobody's. */
START_TEST(an_id_is_known_until_too_many_views_came_after_it)
{
	static const struct view	 first = { VIEW_MATCH, 2, { 1, 2 } }, narrow = { VIEW_MATCH, 1, { 2 } }, wide = { VIEW_MATCH, 3, { 1, 2, 3 } };
	const struct stream_id		 id = { UINT32_MAX, 1 }, next = { 1, 1 }, nobody_s = { 0, 1 };
	struct frames			*f;
	struct frameset			*fs, *other;
	struct view			 v = { VIEW_MATCH, 1, { 0 } };
	int				 i;

	begin(1);
	ck_assert_ptr_nonnull(f = frames_new(&w.poller, &w.opts, w.slot, UINT32_MAX));
	ck_assert_ptr_nonnull(fs = frames_watch(f, &first));
	frames_unwatch(f, &fs);
	ck_assert_ptr_null(fs);
	frames_unwatch(f, &fs);			/* NULL is nobody */
	for (i = 0; i < 1500; i++) {
		ck_assert_ptr_nonnull(fs = frames_watch(f, &first));
		ck_assert_ptr_nonnull(other = frames_watch(f, &narrow));
		if (i < 1000) {			/* it was watched just now */
			ck_assert(frames_knows(f, fs, id) && frames_knows(f, other, id));
			ck_assert_msg(frames_knows(f, other, next), "after the highest epoch comes 1");
			ck_assert(!frames_knows(f, fs, next) && !frames_knows(f, fs, nobody_s));
			ck_assert(!frames_knows(f, fs, (struct stream_id){ UINT32_MAX, now() + 1 }));
		}
		frames_unwatch(f, &other);
		frames_unwatch(f, &fs);
		v.blocks[0] = 100 + i;
		ck_assert_ptr_nonnull(fs = frames_watch(f, &v));
		frames_unwatch(f, &fs);
	}
	for (i = 0; i < 1024; i++) {
		v.blocks[0] = 10000 + i;
		ck_assert_ptr_nonnull(fs = frames_watch(f, &v));
		frames_unwatch(f, &fs);
	}
	ck_assert_ptr_nonnull(fs = frames_watch(f, &narrow));
	ck_assert_ptr_nonnull(other = frames_watch(f, &wide));
	ck_assert_msg(!frames_knows(f, fs, id) && !frames_knows(f, other, id), "a view that nobody asked for since is forgotten");
	frames_unwatch(f, &fs);
	frames_unwatch(f, &other);
	frames_free(&f);
	frames_free(&f);			/* NULL, by now */
	end();
}
END_TEST

START_TEST(a_crowd_shares_its_frames)
{
	static const struct seat_row	 free_seat = { 1, 3, SEAT_NO_EXPIRY, SEAT_AVAILABLE };
	static const struct seat_row	 held = { 1, 3, SEAT_NO_EXPIRY, SEAT_HOLD }, sold = { 1, 3, SEAT_NO_EXPIRY, SEAT_OCCUPIED };
	int				 fds[60], i;

	begin(1);
	apply(SEAT_SNAPSHOT, &free_seat, 1);
	w.poller.away = true;
	for (i = 0; i < 60; i++) {
		struct chan_handover h = { .request_id = 1 };

		fds[i] = request(CHAN_STREAM, i % 3 == 0 ? &block_1 : &counts, &h);
	}
	w.poller.away = false;
	fanout_serve_waiting(w.fanout);
	ck_assert_msg(board_get(w.slot, BOARD_frames) == 2, "%d inits for two views", (int)board_get(w.slot, BOARD_frames));
	apply(SEAT_CHANGES, &held, 1);
	apply(SEAT_CHANGES, &sold, 1);
	ck_assert_msg(board_get(w.slot, BOARD_frames) == 6, "%d frames after two changes", (int)board_get(w.slot, BOARD_frames));
	for (i = 0; i < 60; i++) {
		ck_assert_ptr_nonnull(strstr(answer(fds[i]), i % 3 == 0 ? "event: update" : "event: count"));
		fd_close(&fds[i]);
	}
	end();
}
END_TEST

/* Who comes back and has all is told so, whatever its connection takes at first. */
START_TEST(who_has_all_gets_a_beat)
{
	static const struct seat_row	 row = { 1, 3, SEAT_NO_EXPIRY, SEAT_HOLD };
	const char			*text;
	int				 fd, i;

	begin(1);
	apply(SEAT_SNAPSHOT, &row, 1);
	fd = request(CHAN_STREAM, &block_1, &(struct chan_handover){ .request_id = 1 });	/* whose ids are known */
	for (i = 0; i < 60; i++) {
		struct chan_handover	 h = { .request_id = 1, .resume = { EPOCH, now() } };
		int			 again = request(CHAN_STREAM, &block_1, &h);

		text = answer(again);
		ck_assert_int_eq(strncmp(text, "Status: 200", 11), 0);
		ck_assert_msg(strstr(text, "retry: ") != NULL && strstr(text, "event: beat\n") != NULL, "got %s", text);
		ck_assert_ptr_null(strstr(text, "event: init"));
		fd_close(&again);
	}
	fd_close(&fd);
	end();
}
END_TEST

/* One that is silent, one that is not: a beat comes to each when it was silent for that long. */
START_TEST(beats_come_after_silence)
{
	static const struct seat_row	 row = { 2, 1, SEAT_NO_EXPIRY, SEAT_OCCUPIED };
	static const struct view	 block_2 = { VIEW_BLOCK, 1, { 2 } };
	struct chan_handover		 h = { .request_id = 1 };
	int				 silent, busy;
	int64_t				 began_ms, beat_ms = 0, deadline_ms;
	const char			*text;

	begin(1);
	w.opts.heartbeat_ms = 200;
	silent = request(CHAN_STREAM, &block_1, &h);
	busy = request(CHAN_STREAM, &block_2, &h);
	(void)answer(silent);
	(void)answer(busy);
	began_ms = mono_ms();
	for (deadline_ms = began_ms + 20000; beat_ms == 0 && mono_ms() < deadline_ms; turn()) {
		if (mono_ms() - began_ms > 100 && now() == 1)
			apply(SEAT_CHANGES, &row, 1);
		if (*(text = answer(silent)) != '\0') {
			ck_assert_int_eq(strncmp(text, "event: beat\n", 12), 0);
			beat_ms = mono_ms();
		}
	}
	ck_assert_msg(beat_ms - began_ms >= 200, "a beat after %d ms", (int)(beat_ms - began_ms));
	ck_assert_ptr_nonnull(strstr(answer(busy), "event: update"));
	for (; strstr(text = answer(busy), "event: beat") == NULL && mono_ms() < deadline_ms; turn())
		;
	ck_assert_msg(strstr(text, "event: beat") != NULL && mono_ms() - began_ms >= 300, "the other one's comes later");
	fd_close(&silent);
	fd_close(&busy);
	end();
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("fanout");
	TCase	*tc = unit_case(s, "fanout");

	log_open(LOG_LEVEL_ERROR, false);
	tcase_add_loop_test(tc, a_viewer_misses_nothing_however_it_reads, 0, 16);
	tc = unit_case(s, "answers");
	tcase_add_test(tc, a_snapshot_says_what_it_is_and_how_old);
	tcase_add_test(tc, changes_since_an_id);
	tcase_add_test(tc, without_memory_who_waits_is_told);
	tcase_add_test(tc, who_waits_has_not_begun);
	tcase_add_test(tc, who_gives_way_is_told);
	tcase_add_test(tc, an_id_is_known_until_too_many_views_came_after_it);
	tcase_add_test(tc, a_crowd_shares_its_frames);
	tcase_add_test(tc, who_has_all_gets_a_beat);
	tcase_add_test(tc, beats_come_after_silence);
	return (unit_main(s));
}
