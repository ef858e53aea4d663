/* SPDX-License-Identifier: ISC */
/*
 * What is asked of the machine, memory above all, is refused: each call of a chore
 * in turn, once.  Whoever does the chore must be told, nothing may be half done,
 * and nothing may be left behind (which valgrind and the sanitizers see).
 * Only calls of our own code are refused, not those that libraries make inside.
 */
#include <sys/mman.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/opts.h"
#include "loop/fanout.h"
#include "loop/frames.h"
#include "loop/poller.h"
#include "loop/seat.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "shared/db.h"
#include "shared/hosts.h"
#include "wire/chunk.h"
#include "wire/http.h"
#include "unit.h"

/* --- the machine; the linker puts these in place --------------------------------- */

static unsigned	 calls, refuse;		/* the refuse-th is refused; 0: none */
static bool	 armed;

static bool
is_refused(int error)
{
	if (!armed || ++calls != refuse)
		return (false);
	errno = error;
	return (true);
}

void	*__real_malloc(size_t size);
void	*__real_calloc(size_t n, size_t size);
void	*__real_realloc(void *p, size_t size);
void	*__real_reallocarray(void *p, size_t n, size_t size);
char	*__real_strdup(const char *s);
int	 __real_memfd_create(const char *name, unsigned flags);
int	 __real_ftruncate(int fd, off_t len);
void	*__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int	 __real_fcntl(int fd, int cmd, ...);
int	 __real_eventfd(unsigned initial, int flags);
int	 __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*main)(void *), void *arg);
void	*__wrap_malloc(size_t size);
void	*__wrap_calloc(size_t n, size_t size);
void	*__wrap_realloc(void *p, size_t size);
void	*__wrap_reallocarray(void *p, size_t n, size_t size);
char	*__wrap_strdup(const char *s);
int	 __wrap_memfd_create(const char *name, unsigned flags);
int	 __wrap_ftruncate(int fd, off_t len);
void	*__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int	 __wrap_fcntl(int fd, int cmd, ...);
int	 __wrap_eventfd(unsigned initial, int flags);
int	 __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*main)(void *), void *arg);

void *__wrap_malloc(size_t size) { return (is_refused(ENOMEM) ? NULL : __real_malloc(size)); }
void *__wrap_calloc(size_t n, size_t size) { return (is_refused(ENOMEM) ? NULL : __real_calloc(n, size)); }
void *__wrap_realloc(void *p, size_t size) { return (is_refused(ENOMEM) ? NULL : __real_realloc(p, size)); }
void *__wrap_reallocarray(void *p, size_t n, size_t size) { return (is_refused(ENOMEM) ? NULL : __real_reallocarray(p, n, size)); }
char *__wrap_strdup(const char *s) { return (is_refused(ENOMEM) ? NULL : __real_strdup(s)); }
int __wrap_memfd_create(const char *name, unsigned flags) { return (is_refused(EMFILE) ? -1 : __real_memfd_create(name, flags)); }
int __wrap_ftruncate(int fd, off_t len) { return (is_refused(ENOSPC) ? -1 : __real_ftruncate(fd, len)); }
int __wrap_eventfd(unsigned initial, int flags) { return (is_refused(EMFILE) ? -1 : __real_eventfd(initial, flags)); }

void *
__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
	return (is_refused(ENOMEM) ? MAP_FAILED : __real_mmap(at, len, protection, flags, fd, offset));
}

int
__wrap_fcntl(int fd, int cmd, ...)
{
	va_list	ap;
	int	arg;

	va_start(ap, cmd);
	arg = va_arg(ap, int);
	va_end(ap);
	return (is_refused(EINVAL) ? -1 : __real_fcntl(fd, cmd, arg));
}

int
__wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*main)(void *), void *arg)
{
	return (is_refused(EAGAIN) ? EAGAIN : __real_pthread_create(t, a, main, arg));
}

/* --- what is worked with ------------------------------------------------------------ */

/* The poller that frames and fan-out ask. */
struct poller {
	struct seat_map	*seats;
};
const struct seat_map *poller_seats(const struct poller *p) { return (p->seats); }
bool poller_has_state(const struct poller *p) { (void)p; return (true); }
bool poller_is_current(const struct poller *p) { (void)p; return (true); }
bool poller_is_stale(const struct poller *p) { (void)p; return (false); }
int64_t poller_as_of_ms(const struct poller *p) { (void)p; return (INT64_C(1700000000000)); }
int64_t poller_age_ms(const struct poller *p) { (void)p; return (1); }

static const struct seat_row	 rows[] = { { 2, 9, SEAT_NO_EXPIRY, SEAT_HOLD }, { 1, 4, SEAT_NO_EXPIRY, SEAT_AVAILABLE },
    { 1, 3, SEAT_NO_EXPIRY, SEAT_OCCUPIED }, { 1, 3, SEAT_NO_EXPIRY, SEAT_HOLD } };	/* in no order, and one twice */
static const struct seat_row	 sold = { 1, 4, SEAT_NO_EXPIRY, SEAT_OCCUPIED };
static const struct view	 block_1 = { VIEW_BLOCK, 1, { 1 } }, block_2 = { VIEW_BLOCK, 1, { 2 } };
static struct ev_loop		*ev;
static struct opts		 opts;
static struct poller		 poller;
static struct board		*board;
static struct board_slot	*slot;

static void
setup(void)
{
	struct seat_outcome out;

	log_open(LOG_LEVEL_ERROR, false);
	unsetenv("PGHOST");
	unsetenv("PGHOSTADDR");
	unsetenv("PGPORT");
	unsetenv("PGSERVICE");
	ev = ev_loop_new(EVFLAG_AUTO);
	memset(&opts, 0, sizeof(opts));
	opts.poll_interval_ms = 1000;
	opts.heartbeat_ms = opts.stall_timeout_ms = 60000;
	ck_assert_ptr_nonnull(board = board_new(2, NULL));
	ck_assert_ptr_nonnull(slot = board_claim(board, BOARD_LOOP, 1, 1));
	ck_assert_ptr_nonnull(poller.seats = seat_map_new());
	ck_assert_int_eq(seat_apply(poller.seats, SEAT_SNAPSHOT, rows, nitems(rows), 0, &out), 0);
}

static void
teardown(void)
{
	armed = false;
	seat_map_free(&poller.seats);
	ev_loop_destroy(ev);
}

/* Each chore: true when it was done, false when somebody said that it can't be.  Check may have what it wants. */
#define HOLDS(what) do {				\
	bool holds = (what), was_armed = armed;		\
							\
	armed = false;					\
	ck_assert_msg(holds, "call %u: %s", refuse, #what);	\
	armed = was_armed;				\
} while (0)

static bool
seats(void)
{
	struct seat_map		*m;
	struct seat_outcome	 out;
	bool			 done = false;

	if ((m = seat_map_new()) == NULL)
		return (false);
	if (seat_apply(m, SEAT_SNAPSHOT, rows, nitems(rows), 0, &out) == -1) {
		HOLDS(seat_version(m) == 0);
		HOLDS(seat_count(m) == 0);
		goto out;
	}
	HOLDS(seat_count(m) == 3);
	if (seat_apply(m, SEAT_CHANGES, &sold, 1, 0, &out) == 0) {
		HOLDS(seat_version(m) == 2);
		HOLDS(out.changed == 1);
		done = true;
	} else
		HOLDS(seat_version(m) == 1);
out:
	seat_map_free(&m);
	HOLDS(m == NULL);
	return (done);
}

/* As the viewers of a big block have it: in parts. */
static bool
grown_chunk(void)
{
	struct chunk	*p, *part = NULL, *other = NULL;
	uint64_t	 next;
	size_t		 start;
	bool		 done;

	if ((p = chunk_new(1, "a", 1)) == NULL || (p = chunk_grow(p, 1, "bc", 2, 7)) == NULL || (p = chunk_grow(p, 1, "d", 1, 9)) == NULL)
		return (false);		/* what could not grow is gone */
	part = chunk_part_at(p, p->len - 1, &start, &next);
	other = chunk_readdressed(p, 2);
	done = part != NULL && other != NULL;
	if (part != NULL) {
		HOLDS(next == 9);
		HOLDS(start + part->len == p->len);
	}
	if (other != NULL)
		HOLDS(other->len == p->len);
	chunk_unref(&other);
	chunk_unref(&part);
	chunk_unref(&p);
	return (done);
}

static bool
chunk_of_text(void)
{
	struct buf	 b = BUF_INIT;
	struct chunk	*p, *last;
	bool		 done;

	http_error(&b, 404, "nobody \"here\"", NULL, false);
	p = chunk_from(1, &b);
	last = chunk_last_from(1, &b);
	done = buf_ok(&b) && p != NULL && last != NULL;
	if (!buf_ok(&b))
		HOLDS(p == NULL && last == NULL);
	chunk_unref(&p);
	chunk_unref(&last);
	buf_fini(&b);
	return (done);
}

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	(void)c;
	(void)type;
	(void)p;
	(void)fd;
}

static void
on_closed(struct chan *c, const char *why)
{
	(void)c;
	(void)why;
}

/* A message that waits, with a descriptor that its sender keeps. */
static bool
message(void)
{
	static const struct chan_handover h = { .key = { 1, 101 }, .view = { VIEW_BLOCK, 1, { 101 } }, .request_id = 7, .accepted_ms = 1 };
	struct chan	 c;
	int		 fds[2], kept;
	bool		 done, was = armed;

	armed = false;
	ck_assert_int_eq(chan_pair(fds), 0);
	ck_assert_int_ne(kept = dup(0), -1);
	chan_init(&c, ev, fds[0], CHAN_WORKER, CHAN_MASTER, 1000, on_message, on_closed, NULL);
	while (c.queued == 0)
		ck_assert_int_eq(chan_send_shared(&c, CHAN_HANDOVER, &h, kept), 0);
	armed = was;
	done = chan_send_shared(&c, CHAN_HANDOVER, &h, kept) == 0;
	armed = false;
	ck_assert_uint_eq(c.queued, done ? 2 : 1);
	chan_fini(&c);
	chan_fini(&c);				/* it is closed: nothing */
	fd_close(&fds[1]);
	ck_assert_msg(fcntl(kept, F_GETFD) != -1, "the descriptor is its sender's");
	fd_close(&kept);
	return (done);
}

static bool
scoreboard(void)
{
	struct board	*b;
	const struct board *joined;
	int		 fd = -1;
	bool		 done;

	if ((b = board_new(3, &fd)) == NULL) {
		HOLDS(fd == -1);
		return (false);
	}
	joined = fd != -1 ? board_join(fd) : NULL;
	done = joined != NULL;
	armed = false;
	fd_close(&fd);
	return (done);
}

static bool
slot_of_a_joiner(void)
{
	struct board_slot	*s, *joined;
	int			 fd = -1;
	bool			 done;

	if ((s = board_slot_new(&fd)) == NULL) {
		HOLDS(fd == -1);
		return (false);
	}
	joined = board_slot_join(fd);
	done = joined != NULL;
	board_slot_free(&joined);
	board_slot_free(&s);
	HOLDS(s == NULL);
	armed = false;
	fd_close(&fd);
	return (done);
}

/* All that a view asks of the frames, and what waits for a snapshot. */
static bool
frames(void)
{
	struct chan_handover	 snapshot = { .request_id = 7, .kind = CHAN_SNAPSHOT }, changes = { .request_id = 1, .kind = CHAN_CHANGES };
	const struct view_known	 old = { 1, VIEW_END, 0 };
	struct frames		*f;
	struct frameset		*fs, *other;
	struct chunk		*p, *head, *body;
	enum frames_mark	 mark;
	bool			 done = true;
	unsigned		 i;

	if ((f = frames_new(&poller, &opts, slot, 5)) == NULL)
		return (false);
	fs = frames_watch(f, &block_1);
	other = frames_watch(f, &block_2);
	if (fs == NULL || other == NULL)
		done = false;
	else {
		for (i = 0; i < 2; i++) {	/* what was refused can be had later */
			done = (p = frames_head(f, "")) != NULL && done;
			chunk_unref(&p);
			done = (p = frames_init(f, fs)) != NULL && done;
			chunk_unref(&p);
			done = (p = frames_news(f, fs, &old)) != NULL && done;
			chunk_unref(&p);
			for (mark = 0; mark < FRAMES_MARKS; mark++) {
				done = (p = frames_mark(f, mark)) != NULL && done;
				chunk_unref(&p);
			}
		}
		head = body = NULL;
		if (frames_answer(f, fs, &snapshot, &head, &body) == -1) {
			HOLDS(head == NULL && body == NULL);
			done = false;
		}
		chunk_unref(&head);
		chunk_unref(&body);
		if (frames_answer(f, fs, &changes, &head, &body) == -1)
			done = false;
		chunk_unref(&head);
		chunk_unref(&body);
	}
	frames_published(f);
	frames_unwatch(f, &other);
	frames_unwatch(f, &fs);
	frames_free(&f);
	HOLDS(f == NULL);
	return (done);
}

static bool
fan_out(void)
{
	struct fanout *f;

	if ((f = fanout_new(ev, &opts, slot, &poller, 5, NULL, NULL, NULL)) == NULL)
		return (false);
	fanout_free(&f);
	HOLDS(f == NULL);
	return (true);
}

static void
on_ready(void *arg)
{
	(void)arg;
}

/* A host by its number and one by its name. */
static bool
host_list(void)
{
	struct hosts	*h;
	PGconn		*conn;
	bool		 asked, was;

	if ((h = hosts_new(ev, "host=127.0.0.1,localhost port=1,2", on_ready, NULL)) == NULL)
		return (false);
	hosts_ask(h);
	asked = hosts_is_asking(h);
	if (!asked)
		HOLDS(hosts_error(h) != NULL);
	was = armed;
	armed = false;			/* libev's own */
	while (hosts_is_asking(h))
		ev_run(ev, EVRUN_ONCE);
	armed = was;
	conn = hosts_connect(h);
	armed = false;
	PQfinish(conn);
	hosts_free(&h);
	HOLDS(h == NULL);
	hosts_free(&h);			/* once more is nothing */
	return (asked && conn != NULL);
}

static bool
database(void)
{
	struct db *db;

	if ((db = db_new(ev, "host=127.0.0.1", slot)) == NULL)
		return (false);
	db_free(&db);
	HOLDS(db == NULL);
	return (true);
}

static const struct {
	const char	*says;
	bool		(*chore)(void);
	unsigned	 least;		/* so many calls, or the test has lost what it is about */
	bool		 goes_on;	/* it may do without: what can't be kept for others is not kept */
} chores[] = {
	{ "seats stay as they were", seats, 4, false },
	{ "a chunk that can't grow is gone", grown_chunk, 5, false },
	{ "of half a text no chunk is made", chunk_of_text, 3, false },
	{ "a message that waits", message, 1, false },
	{ "a scoreboard", scoreboard, 2, false },
	{ "a slot of its own", slot_of_a_joiner, 2, false },
	{ "frames", frames, 8, true },
	{ "a fan-out", fan_out, 2, false },
	{ "hosts and their names", host_list, 6, false },
	{ "a database", database, 3, false },
};

START_TEST(each_call_is_refused_in_turn)
{
	unsigned n;

	for (n = 1; n < 1000; n++) {
		bool done;

		calls = 0;
		refuse = n;
		armed = true;
		done = chores[_i].chore();
		armed = false;
		if (calls < n) {
			ck_assert_msg(done, "%s: not done, though nothing was refused", chores[_i].says);
			break;
		}
		ck_assert_msg(!done || chores[_i].goes_on, "%s: call %u was refused, and nobody says so", chores[_i].says, n);
	}
	ck_assert_msg(n > chores[_i].least && n < 1000, "%s: %u calls", chores[_i].says, n - 1);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("scarce");
	TCase	*tc = unit_case(s, "scarce");

	tcase_add_checked_fixture(tc, setup, teardown);
	unit_rows(tc, each_call_is_refused_in_turn, chores);
	return (unit_main(s));
}
