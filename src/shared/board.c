/* SPDX-License-Identifier: ISC */
/*
 * A slot's key is written before `live` is raised and `live` is lowered before
 * the slot is released (release/acquire order), so a reader that sees live reads
 * a whole key.  A reader that is late by one message asks the master for a loop
 * that has just left, and the master forks a new one: no harm.
 */
#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/must.h"
#include "shared/board.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE	0x0010	/* linux/fcntl.h, since 5.1 */
#endif

const unsigned board_bucket_ms[BOARD_BUCKETS - 1] = {
	1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 1100, 2500, 5000
};

#define ENDS_GAUGE	""
#define ENDS_COUNTER	"_total"
#define ENDS_PRIVATE	""
#define IN_NUMBER	""
#define IN_BYTES	"_bytes"
#define IN_MILLISECONDS	"_seconds"
#define IN_MICROSECONDS	"_seconds"
enum { NUMBER = 1, BYTES = 1, MILLISECONDS = 1000, MICROSECONDS = 1000000 };

static const struct {
	const char		*name, *text;
	enum board_shape	 shape;
	unsigned		 per_unit;
} values[BOARD__MAX] = {
#define BOARD(name, KIND, UNIT, text)	{ #name IN_##UNIT ENDS_##KIND, text, BOARD_##KIND, UNIT },
#include "shared/board_tbl.h"
#undef BOARD
};

#define LAYOUT	((uint64_t)sizeof(struct board) << 32 | (uint64_t)sizeof(struct board_slot) << 8 | BOARD__MAX)

static size_t
board_bytes(size_t nslots)
{
	return (sizeof(struct board) + nslots * sizeof(struct board_slot));
}

static int64_t
unix_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

/* New memory of that size, mapped; -1 in *fd_r on failure. */
static void *
new_memory(const char *name, size_t bytes, int *fd_r)
{
	void *p = MAP_FAILED;

	if ((*fd_r = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)) == -1)
		return (NULL);
	if (ftruncate(*fd_r, (off_t)bytes) == 0)
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd_r, 0);
	if (p == MAP_FAILED)
		fd_close(fd_r);
	return (p == MAP_FAILED ? NULL : p);
}

/* That of another process, which can't take it away or make it shorter.  NULL: errno. */
static void *
others_memory(int fd, int protection, size_t least, size_t *bytes_r)
{
	struct stat	 st;
	void		*p;
	int		 seals = fcntl(fd, F_GET_SEALS);

	if (seals == -1 || fstat(fd, &st) == -1)
		return (NULL);
	if (!(seals & F_SEAL_SHRINK) || st.st_size < (off_t)least) {
		errno = EINVAL;
		return (NULL);
	}
	*bytes_r = (size_t)st.st_size;
	p = mmap(NULL, *bytes_r, protection, MAP_SHARED, fd, 0);
	return (p == MAP_FAILED ? NULL : p);
}

struct board *
board_new(size_t nslots, int *fd_r)
{
	struct board	*b;
	int		 fd;

	if ((b = new_memory("seatcast board", board_bytes(nslots), &fd)) == NULL)
		return (NULL);
	b->born_unix_ms = unix_ms();
	b->layout = LAYOUT;
	b->nslots = nslots;	/* the rest is zero: all slots BOARD_FREE */
	/* our mapping and those that are forked from it stay writable; who gets the descriptor can only read */
	if (fd_r != NULL && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0)
		*fd_r = fd_take(&fd);
	fd_close(&fd);
	return (b);
}

const struct board *
board_join(int fd)
{
	struct board	*b;
	size_t		 bytes;

	if ((b = others_memory(fd, PROT_READ, sizeof(struct board), &bytes)) == NULL)
		return (NULL);
	if (b->layout == LAYOUT && b->nslots <= bytes / sizeof(struct board_slot) && board_bytes(b->nslots) <= bytes)
		return (b);
	munmap(b, bytes);
	errno = EINVAL;
	return (NULL);
}

struct board_slot *
board_slot_new(int *fd_r)
{
	struct board_slot	*s;
	int			 fd;

	if ((s = new_memory("seatcast slot", sizeof(*s), &fd)) == NULL)
		return (NULL);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1) {
		fd_close(&fd);
		board_slot_free(&s);
	}
	*fd_r = fd;
	return (s);
}

struct board_slot *
board_slot_join(int fd)
{
	size_t bytes;

	return (others_memory(fd, PROT_READ | PROT_WRITE, sizeof(struct board_slot), &bytes));
}

void
board_slot_free(struct board_slot **sp)
{
	if (*sp != NULL)
		munmap(*sp, sizeof(**sp));
	*sp = NULL;
}

struct board_slot *
board_claim(struct board *b, enum board_kind kind, int64_t match_id, int64_t block_id)
{
	struct board_slot	*s;
	size_t			 i, v;

	for (i = 0; i < b->nslots && b->slot[i].kind != BOARD_FREE; i++)
		;
	if (i == b->nslots)
		return (NULL);
	s = &b->slot[i];
	for (v = 0; v < BOARD__MAX; v++)
		s->value[v] = 0;
	memset((void *)s->histogram, 0, sizeof(s->histogram));
	s->said.unix_ms = 0;
	s->pid = 0;
	s->live = 0;
	s->match_id = match_id;
	s->block_id = block_id;
	atomic_store_explicit(&s->kind, kind, memory_order_release);
	return (s);
}

static void
add_durations(struct board_durations *to, const struct board_durations *d)
{
	size_t i;

	for (i = 0; i < BOARD_BUCKETS; i++)
		to->bucket[i] += d->bucket[i];
	to->us += d->us;
}

static void
say_at(struct board_said *said, int64_t at_ms, const char *text)
{
	atomic_store_explicit(&said->unix_ms, 0, memory_order_release);
	snprintf(said->text, sizeof(said->text), "%s", text);
	atomic_store_explicit(&said->unix_ms, at_ms, memory_order_release);
}

/* Whole, or false: its process is writing it just now, or never said a thing. */
static bool
copy_said(const struct board_said *said, struct board_said *copy_r)
{
	copy_r->unix_ms = atomic_load_explicit(&said->unix_ms, memory_order_acquire);
	memcpy(copy_r->text, said->text, sizeof(said->text));
	copy_r->text[sizeof(copy_r->text) - 1] = '\0';
	return (copy_r->unix_ms != 0 && atomic_load_explicit(&said->unix_ms, memory_order_acquire) == copy_r->unix_ms);
}

/* What is added up later must not overflow, whoever wrote it: 10^14 us are three years. */
static int64_t
plausible(int64_t n)
{
	const int64_t most = INT64_C(100000000000000);

	return (n < 0 ? 0 : n > most ? most : n);
}

void
board_slot_show(struct board_slot *to, const struct board_slot *from)
{
	struct board_said	said;
	int64_t			now = unix_ms();
	size_t			v, i;

	for (v = 0; v < BOARD__MAX; v++)
		board_set(to, v, plausible(board_get(from, v)));
	for (v = 0; v < BOARD_HISTOGRAMS; v++) {
		for (i = 0; i < BOARD_BUCKETS; i++)
			to->histogram[v].bucket[i] = plausible(from->histogram[v].bucket[i]);
		to->histogram[v].us = plausible(from->histogram[v].us);
	}
	if (copy_said(&from->said, &said) && said.unix_ms != to->said.unix_ms)
		say_at(&to->said, said.unix_ms < now ? said.unix_ms : now, said.text);
}

void
board_release(struct board *b, struct board_slot *s)
{
	struct board_said	said;
	size_t			v;

	atomic_store_explicit(&s->live, 0, memory_order_release);
	for (v = 0; v < BOARD__MAX; v++) {
		if (values[v].shape == BOARD_COUNTER)
			b->retired.value[v] += s->value[v];
		s->value[v] = 0;
	}
	for (v = 0; v < BOARD_HISTOGRAMS; v++)
		add_durations(&b->retired.histogram[v], &s->histogram[v]);
	if (copy_said(&s->said, &said) && said.unix_ms > b->retired.said.unix_ms)
		say_at(&b->retired.said, said.unix_ms, said.text);
	atomic_store_explicit(&s->kind, BOARD_FREE, memory_order_release);
}

void
board_add(struct board_slot *s, enum board_value v, int64_t n)
{
	atomic_fetch_add_explicit(&s->value[v], n, memory_order_relaxed);
}

void
board_set(struct board_slot *s, enum board_value v, int64_t n)
{
	atomic_store_explicit(&s->value[v], n, memory_order_relaxed);
}

int64_t
board_get(const struct board_slot *s, enum board_value v)
{
	return (atomic_load_explicit(&s->value[v], memory_order_relaxed));
}

void
board_observe(struct board_slot *s, enum board_histogram h, int64_t us)
{
	size_t i;

	for (i = 0; i < BOARD_BUCKETS - 1 && us > (int64_t)board_bucket_ms[i] * 1000; i++)
		;
	atomic_fetch_add_explicit(&s->histogram[h].bucket[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->histogram[h].us, us, memory_order_relaxed);
}

void
board_say(void *slot, const char *text)
{
	struct board_slot *s = slot;

	say_at(&s->said, unix_ms(), text);
}

bool
board_last_said(const struct board *b, struct board_said *copy_r)
{
	struct board_said	one;
	size_t			i;
	bool			any = copy_said(&b->retired.said, copy_r);

	for (i = 0; i < b->nslots; i++)
		if (b->slot[i].kind != BOARD_FREE && copy_said(&b->slot[i].said, &one) && (!any || one.unix_ms > copy_r->unix_ms)) {
			*copy_r = one;
			any = true;
		}
	return (any);
}

void
board_total_durations(const struct board *b, enum board_histogram h, struct board_durations *sum_r)
{
	size_t i;

	memset((void *)sum_r, 0, sizeof(*sum_r));
	add_durations(sum_r, &b->retired.histogram[h]);
	for (i = 0; i < b->nslots; i++)
		if (b->slot[i].kind != BOARD_FREE)
			add_durations(sum_r, &b->slot[i].histogram[h]);
}

int64_t
board_total(const struct board *b, enum board_value v)
{
	int64_t	sum = b->retired.value[v];
	size_t	i;

	for (i = 0; i < b->nslots; i++)
		if (b->slot[i].kind != BOARD_FREE)
			sum += board_get(&b->slot[i], v);
	return (sum);
}

bool
board_group_live(const struct board *b, int64_t match_id, int64_t block_id)
{
	size_t i;

	for (i = 0; i < b->nslots; i++) {
		const struct board_slot *s = &b->slot[i];

		if (atomic_load_explicit(&s->live, memory_order_acquire) && s->kind == BOARD_LOOP &&
		    s->match_id == match_id && s->block_id == block_id)
			return (true);
	}
	return (false);
}

const char *
board_name(enum board_value v)
{
	return (values[v].name);
}

const char *
board_text(enum board_value v)
{
	return (values[v].text);
}

enum board_shape
board_shape(enum board_value v)
{
	return (values[v].shape);
}

unsigned
board_per_unit(enum board_value v)
{
	return (values[v].per_unit);
}
