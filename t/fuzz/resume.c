/* SPDX-License-Identifier: ISC */
/*
 * fuzz resume: Last-Event-ID, by either way in, and what it is answered with.
 * An input is a line for the header, a line for the query, and the history of
 * eight seats: a byte is a seat's new status, the end of a batch, or a seat that
 * comes or goes.  What must hold: an id that a plain reading finds good is taken and no
 * other; whoever had the seats of that version and takes the news has those of now,
 * and nothing is news that it had; without an id, or with one too old, that is init.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/opts.h"
#include "loop/frames.h"
#include "loop/poller.h"
#include "loop/view.h"
#include "shared/board.h"
#include "wire/stream_id.h"
#include "worker/route.h"

#define EPOCH		UINT32_C(0x5f3a9c1e)
#define BLOCK		101
#define FIRST		101
#define SEATS		8
#define VERSIONS	64
#define GONE		SEAT_STATUSES

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static struct seat_map	*seats;
static uint8_t		 was[VERSIONS + 1][SEATS];	/* statuses by version, GONE: no such seat */
static uint64_t		 layout;		/* version that last changed which seats there are */

/* The poller, as far as frames knows it. */
const struct seat_map *poller_seats(const struct poller *p) { (void)p; return (seats); }
bool	poller_is_stale(const struct poller *p) { (void)p; return (false); }
int64_t	poller_as_of_ms(const struct poller *p) { (void)p; return (INT64_C(1700000000000)); }
int64_t	poller_age_ms(const struct poller *p) { (void)p; return (0); }

static void
remember(void)
{
	uint64_t	v = seat_version(seats);
	size_t		i;

	must(v <= VERSIONS);
	memset(was[v], GONE, SEATS);
	for (i = 0; i < seat_count(seats); i++)
		was[v][seat_at(seats, i)->id - FIRST] = (uint8_t)seat_at(seats, i)->status;
}

static void
apply(enum seat_batch kind, const struct seat_row *rows, size_t n)
{
	struct seat_outcome	 out;
	size_t			 before = seat_count(seats);

	if (seat_apply(seats, kind, rows, n, 0, &out) == -1)
		abort();
	if (seat_count(seats) != before)
		layout = seat_version(seats);
	remember();
}

/* One seat comes or goes; the others stay as they are. */
static void
snapshot_without(int64_t id)
{
	struct seat_row	 rows[SEATS];
	uint8_t		*now = was[seat_version(seats)];
	size_t		 i, n = 0;

	for (i = 0; i < SEATS; i++) {
		bool	there = (FIRST + (int64_t)i == id) != (now[i] != GONE);

		if (there)
			rows[n++] = (struct seat_row){ BLOCK, FIRST + (int64_t)i, SEAT_NO_EXPIRY,
			    now[i] == GONE ? SEAT_AVAILABLE : (enum seat_status)now[i] };
	}
	apply(SEAT_SNAPSHOT, rows, n);
}

static void
play(const uint8_t *data, size_t size)
{
	struct seat_row	 rows[SEATS * 4];
	size_t		 n = 0;

	layout = 0;
	for (size_t i = 0; i < SEATS; i++)
		rows[n++] = (struct seat_row){ BLOCK, FIRST + (int64_t)i, SEAT_NO_EXPIRY, SEAT_AVAILABLE };
	apply(SEAT_SNAPSHOT, rows, n);
	for (n = 0; size > 0 && seat_version(seats) < VERSIONS - 1; data++, size--) {
		unsigned status = *data >> 3 & 3;

		if (status < SEAT_STATUSES && n < nitems(rows)) {
			rows[n++] = (struct seat_row){ BLOCK, FIRST + (*data & 7), SEAT_NO_EXPIRY, (enum seat_status)status };
			continue;
		}
		apply(SEAT_CHANGES, rows, n);
		n = 0;
		if (*data & 0x80)
			snapshot_without(FIRST + (*data & 7));
	}
	apply(SEAT_CHANGES, rows, n);
}

/* "5f3a9c1e-41" as SPEC has it, read in another way than stream_id does.  0: is none of ours. */
static uint64_t
plain_version(const char *text)
{
	char	*end;
	unsigned long long v;

	if (strncmp(text, "5f3a9c1e-", 9) != 0 || strspn(text + 9, "0123456789") != strlen(text + 9) ||
	    text[9] == '0' || text[9] == '\0' || strlen(text + 9) > 19)
		return (0);
	v = strtoull(text + 9, &end, 10);
	return (v <= seat_version(seats) ? v : 0);
}

/* Whoever has the seats of that version (0: none) takes the news. */
static void
check_news(const struct view *v, uint64_t version)
{
	struct view_known	 known = { version, VIEW_END, 0 };
	struct view_walk	 w;
	struct cell		 c;
	uint8_t			 has[SEATS];
	uint64_t		 last = 0;

	must(version == 0 || version >= layout);
	if (version == 0)
		memset(has, GONE, SEATS);
	else
		memcpy(has, was[version], SEATS);
	view_walk_init(&w, v, seats, &known, VIEW_BEGIN);
	while (view_walk_next(&w, &c)) {
		must(c.place > last && c.seat->version > version);
		last = c.place;
		has[c.seat->id - FIRST] = (uint8_t)c.seat->status;
	}
	must(memcmp(has, was[seat_version(seats)], SEATS) == 0);
}

static void
check_id(struct frames *f, struct frameset *fs, const struct view *v, const char *text)
{
	struct stream_id	 id = { 0, 0 };
	uint64_t		 good = plain_version(text);
	bool			 known = stream_id_parse(text, &id) == 0 && frames_knows(f, fs, id);

	must(known == (good != 0));
	must(!known || id.version == good);
	must(frames_layout_version(f, fs) == layout);
	check_news(v, known && good >= layout ? good : 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct opts	 o;
	static struct board_slot slot;
	const struct view	 v = { .kind = VIEW_BLOCK, .nblocks = 1, .blocks = { BLOCK } };
	const uint8_t		*history = data, *end = data + size;
	struct frames		*f;
	struct frameset		*fs;
	char			*line[2] = { NULL, NULL }, value[STREAM_ID_BYTES];
	size_t			 i;

	for (i = 0; i < 2; i++) {
		const uint8_t	*nl = history < end ? memchr(history, '\n', (size_t)(end - history)) : NULL;

		line[i] = strndup((const char *)history, (size_t)((nl != NULL ? nl : end) - history));
		must(line[i] != NULL);
		history = nl != NULL ? nl + 1 : end;
	}
	if ((seats = seat_map_new()) == NULL || (f = frames_new(NULL, &o, &slot, EPOCH)) == NULL ||
	    (fs = frames_watch(f, &v)) == NULL)
		abort();
	play(history, (size_t)(end - history));
	check_id(f, fs, &v, line[0]);
	if (route_query(line[1], "lastEventId", value, sizeof(value)) == 0)
		check_id(f, fs, &v, value);
	frames_unwatch(f, &fs);
	frames_free(&f);
	seat_map_free(&seats);
	for (i = 0; i < 2; i++)
		free(line[i]);
	return (0);
}
