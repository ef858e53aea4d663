/*
 * fanout: random changes for viewers who read at their own pace, leave in the
 * middle and come back with their last id, against the whole history of the
 * block.  Whoever reads bytes from the sockets plays the browser.
 *
 * What must hold after each event, for each seat (SPEC 2):
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
#include "loop/poller.h"
#include "shared/board.h"
#include "unit.h"

#define SEATS		500		/* ids 1 to SEATS; some are not there at times */
#define VERSIONS	400
#define VIEWERS		6
#define STEPS		250
#define EPOCH		0xabcdu
#define ABSENT		(-1)
#define SNDBUF		4096

/* The poller that fanout asks: a block whose history is known. */
struct poller {
	struct seat_map	*seats;
	bool		 stale;
};
const struct seat_map *poller_seats(const struct poller *f) { return (f->seats); }
bool poller_has_state(const struct poller *f) { return (seat_version(f->seats) > 0); }
bool poller_is_current(const struct poller *f) { return (!f->stale); }
bool poller_is_stale(const struct poller *f) { return (f->stale); }
int64_t poller_as_of_ms(const struct poller *f) { (void)f; return (INT64_C(1700000000000)); }
int64_t poller_age_ms(const struct poller *f) { (void)f; return (4321); }

struct browser {
	int		 fd;			/* -1: away */
	uint16_t	 request_id;
	unsigned char	 raw[65536];		/* FastCGI records not yet whole */
	size_t		 nraw;
	char		 text[65536];		/* of the stream, not yet a whole block of lines */
	size_t		 ntext;
	bool		 head_seen;
	uint64_t	 id;			/* version; 0: none */
	int		 shown[SEATS + 1];	/* enum seat_status or ABSENT */
	uint64_t	 at[SEATS + 1];		/* the earliest version at which that can have been so */
	bool		 stale;
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
	bool			 gone[STEPS + VIEWERS + 1];	/* by number */
	uint64_t		 ngone;
	uint64_t		 random;
	signed char		 history[VERSIONS + 1][SEATS + 1];
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

/* --- the database ----------------------------------------------------------- */

static void
remember(void)
{
	size_t	 i;
	uint64_t v = now();

	ck_assert_uint_le(v, VERSIONS);
	memset(w.history[v], ABSENT, sizeof(w.history[v]));
	for (i = 0; i < seat_count(w.poller.seats); i++)
		w.history[v][seat_at(w.poller.seats, i)->id] = (signed char)seat_at(w.poller.seats, i)->status;
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
	fanout_publish(w.fanout);
}

/* A poll: one seat, some, or nearly all of them. */
static void
change_some(void)
{
	static struct seat_row	rows[SEATS];
	const size_t		most[] = { 1, 10, 200, SEATS };
	size_t			n = 1 + below(most[below(4)]), i;

	for (i = 0; i < n; i++)
		rows[i] = (struct seat_row){ 101, 1 + (int64_t)below(SEATS), SEAT_NO_EXPIRY, (enum seat_status)below(3) };
	apply(SEAT_CHANGES, rows, n);
}

/* A reconcile of a block that has other seats now. */
static void
change_layout(void)
{
	static struct seat_row	rows[SEATS];
	size_t			n = 0;
	int64_t			id, away = (int64_t)below(SEATS);

	for (id = 1; id <= SEATS; id++)
		if (id % 7 != away % 7)
			rows[n++] = (struct seat_row){ 101, id, SEAT_NO_EXPIRY, (enum seat_status)below(3) };
	apply(SEAT_SNAPSHOT, rows, n);
}

/* --- the browsers ----------------------------------------------------------- */

/* The first version from at on at which the seat was so; 0: none. */
static uint64_t
so_from(int64_t seat, int status, uint64_t at)
{
	uint64_t v;

	for (v = at > 0 ? at : 1; v <= now(); v++)
		if (w.history[v][seat] == status)
			return (v);
	return (0);
}

static void
show(struct browser *b, int64_t seat, int status)
{
	uint64_t v = so_from(seat, status, b->at[seat]);

	ck_assert_msg(v != 0, "seat %lld: %d is older than what was shown (version %llu)", (long long)seat, status,
	    (unsigned long long)b->at[seat]);
	b->shown[seat] = status;
	b->at[seat] = v;
}

static enum seat_status
status_in(const char *text)
{
	enum seat_status	s;
	char			name[16];

	ck_assert_int_eq(sscanf(text, "\"status\":\"%15[A-Z]\"", name), 1);
	ck_assert_int_eq(seat_status_parse(name, &s), 0);
	return (s);
}

static void
take_init(struct browser *b, const char *data, uint64_t id)
{
	const char	*p = strstr(data, "[");
	long long	 seat;
	int64_t		 i;

	b->inits++;
	ck_assert_ptr_nonnull(p);
	for (i = 1; i <= SEATS; i++)
		b->shown[i] = ABSENT;
	while ((p = strstr(p, "{\"id\":")) != NULL) {
		ck_assert_int_eq(sscanf(p, "{\"id\":%lld,", &seat), 1);
		p = strchr(p, ',') + 1;
		b->shown[seat] = status_in(p);
	}
	for (i = 1; i <= SEATS; i++) {
		ck_assert_msg(w.history[id][i] == b->shown[i], "init of version %llu: seat %lld", (unsigned long long)id, (long long)i);
		ck_assert_msg(b->at[i] <= id || so_from(i, b->shown[i], b->at[i]) != 0, "init is older than what was shown");
		if (b->at[i] < id)
			b->at[i] = id;
	}
}

/* Who has an id has everything up to it. */
static void
take_id(struct browser *b, uint64_t id)
{
	uint64_t	v;
	int64_t		i;

	ck_assert_msg(id >= b->id && id <= now(), "id %llu after %llu", (unsigned long long)id, (unsigned long long)b->id);
	b->id = id;
	for (i = 1; i <= SEATS; i++) {
		v = so_from(i, b->shown[i], b->at[i] > id ? b->at[i] : id);
		ck_assert_msg(v != 0, "id %llu: seat %lld shows %d, which it was not any more", (unsigned long long)id,
		    (long long)i, b->shown[i]);
		b->at[i] = v;
	}
}

/* One block of lines of the stream. */
static void
take_block(struct browser *b, char *block)
{
	char			*line, *rest = NULL, *event = NULL, *data = NULL;
	unsigned long long	 epoch = 0, id = 0;
	long long		 seat;

	for (line = strtok_r(block, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		if (strncmp(line, "event: ", 7) == 0)
			event = line + 7;
		else if (strncmp(line, "data: ", 6) == 0)
			data = line + 6;
		else if (strncmp(line, "id: ", 4) == 0)
			ck_assert_int_eq(sscanf(line, "id: %llx-%llu", &epoch, &id), 2);
		else
			ck_assert_msg(strncmp(line, "retry: ", 7) == 0, "what is this: %s", line);
	if (event == NULL)
		return;
	ck_assert_ptr_nonnull(data);
	ck_assert(id == 0 || epoch == EPOCH);
	if (strcmp(event, "init") == 0)
		take_init(b, data, id);
	else if (strcmp(event, "update") == 0) {
		ck_assert_int_eq(sscanf(data, "{\"status\":200,\"data\":{\"seatId\":%lld,", &seat), 1);
		show(b, seat, (int)status_in(strstr(data, "\"seatId\"") + strcspn(strstr(data, "\"seatId\""), ",") + 1));
	} else if (strcmp(event, "stale") == 0 || strcmp(event, "fresh") == 0)
		b->stale = event[0] == 's';
	else
		ck_assert_str_eq(event, "beat");
	if (id != 0)
		take_id(b, id);
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
	ck_assert_msg(n > 0, "a viewer was closed");
	b->nraw += (size_t)n;
	take_records(b);
	return (n);
}

static void
leave(struct browser *b)
{
	fd_close(&b->fd);
}

/* With what it has: what was shown stays, the id says what is complete. */
static void
come(struct browser *b)
{
	struct chan_handover	h;
	int			fds[2], size = SNDBUF;

	memset(&h, 0, sizeof(h));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	b->fd = fds[0];
	b->nraw = b->ntext = 0;
	b->head_seen = b->stale = false;
	b->request_id = below(8) == 0 ? 7 : 1;
	h.request_id = b->request_id;
	h.kind = CHAN_STREAM;
	h.view = (struct view){ VIEW_BLOCK, 1, { 101 } };
	h.accepted_ms = mono_ms();
	if (b->id != 0)
		h.resume = (struct stream_id){ EPOCH, b->id };
	ck_assert_int_eq(fanout_attach(w.fanout, &h, fds[1], ++w.number), 0);
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
	ck_assert(number >= 1 && number <= w.number);
	ck_assert_msg(!w.gone[number], "hand-over %llu has ended twice", (unsigned long long)number);
	w.gone[number] = true;
	w.ngone++;
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
	ck_assert_ptr_nonnull(w.slot = board_claim(w.board, BOARD_LOOP, 1, 101));
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

	fanout_free(&w.fanout);
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
	ev_run(w.ev, EVRUN_NOWAIT);
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
		fanout_freshness(w.fanout);
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

static void
read_all(struct browser *b)
{
	int64_t	i;
	int	quiet;

	for (quiet = 0; quiet < 3; turn())
		quiet = browse(b, SIZE_MAX) > 0 ? 0 : quiet + 1;
	ck_assert_uint_eq(b->id, now());
	for (i = 1; i <= SEATS; i++)
		ck_assert_msg(b->shown[i] == w.history[now()][i], "at the end seat %lld shows %d, it is %d", (long long)i,
		    b->shown[i], w.history[now()][i]);
	ck_assert_int_eq(b->stale, w.poller.stale);
}

START_TEST(a_viewer_misses_nothing_however_it_reads)
{
	size_t i;

	begin(unit_seed(_i));
	for (i = 0; i < STEPS && now() < VERSIONS; i++)
		step();
	for (i = 0; i < VIEWERS; i++) {
		if (w.browser[i].fd == -1)
			come(&w.browser[i]);
		read_all(&w.browser[i]);
	}
	ck_assert_msg(board_get(w.slot, BOARD_conflations) > 0, "nobody was slow: this tests nothing");
	end();
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("fanout");
	TCase	*tc = unit_case(s, "fanout");

	log_open(LOG_LEVEL_ERROR, false);
	tcase_add_loop_test(tc, a_viewer_misses_nothing_however_it_reads, 0, 8);
	return (unit_main(s));
}
