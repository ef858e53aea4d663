/* SPDX-License-Identifier: ISC */
/*
 * sse: the bytes of SPEC 2, exactly.
 */
#include <stdio.h>
#include <string.h>

#include "loop/seat.h"
#include "loop/sse.h"
#include "unit.h"
#include "wire/event.h"
#include "wire/stream_id.h"

#define NEVER	SEAT_NO_EXPIRY

static const struct stream_id	 id41 = { 0x5f3a9c1e, 41 };
static const struct view		 block_view = { VIEW_BLOCK, 1, { 1 } };

/* A map at version 1 with the seats 1 … n, all AVAILABLE. */
static struct seat_map *
new_block(size_t n)
{
	struct seat_row		*rows = calloc(n + 1, sizeof(*rows));
	struct seat_map		*m = seat_map_new();
	struct seat_outcome	 out;
	size_t			 i;

	ck_assert_ptr_nonnull(rows);
	ck_assert_ptr_nonnull(m);
	for (i = 0; i < n; i++)
		rows[i] = (struct seat_row){ 1, (int64_t)i + 1, NEVER, SEAT_AVAILABLE };
	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, rows, n, 0, &out), 0);
	free(rows);
	return (m);
}

static void
change(struct seat_map *m, int64_t seat_id, enum seat_status status)
{
	const struct seat_row	 row = { 1, seat_id, NEVER, status };
	struct seat_outcome	 out;

	ck_assert_int_eq(seat_apply(m, SEAT_CHANGES, &row, 1, 0, &out), 0);
	ck_assert_uint_eq(out.changed, 1);
}

/* Each puts one kind of event; the row says which bytes that must be. */
static void
put_init(struct buf *b)
{
	struct seat_map	*m = new_block(3);

	change(m, 2, SEAT_HOLD);
	change(m, 3, SEAT_OCCUPIED);
	sse_init(b, id41, &block_view, m);
	seat_map_free(&m);
}

static void
put_empty_init(struct buf *b)
{
	struct seat_map	*m = new_block(0);

	sse_init(b, (struct stream_id){ 0x0000000a, UINT64_MAX }, &block_view, m);
	seat_map_free(&m);
}

static void
put_snapshot(struct buf *b)
{
	struct seat_map	*m = new_block(1);

	sse_snapshot_json(b, &block_view, m);
	seat_map_free(&m);
}

static const struct {
	const char	*says;
	void		(*put)(struct buf *);
	const char	*bytes;
} event_cases[] = {
	{ "init lists every seat by ascending id", put_init,
	    "event: init\ndata: {\"status\":200,\"data\":{\"seats\":["
	    "{\"id\":1,\"status\":\"AVAILABLE\"},{\"id\":2,\"status\":\"HOLD\"},"
	    "{\"id\":3,\"status\":\"OCCUPIED\"}]}}\nid: 5f3a9c1e-41\n\n" },
	{ "an empty block has an empty list, an epoch leading zeros", put_empty_init,
	    "event: init\ndata: {\"status\":200,\"data\":{\"seats\":[]}}\nid: 0000000a-18446744073709551615\n\n" },
	{ "the snapshot is the data of init", put_snapshot,
	    "{\"status\":200,\"data\":{\"seats\":[{\"id\":1,\"status\":\"AVAILABLE\"}]}}" },
};

START_TEST(events)
{
	struct buf	 b = BUF_INIT;

	event_cases[_i].put(&b);
	ck_assert(buf_ok(&b));
	unit_same_bytes(event_cases[_i].says, b.data, b.len, event_cases[_i].bytes,
	    strlen(event_cases[_i].bytes));
	buf_fini(&b);
}
END_TEST

/* Of a block that was 1: 1 2 3 A; 2: 2 H; 3: 1 O; 4: 2 A. */
static const struct {
	const char	*says;
	uint64_t	 since;
	size_t		 n;
	const char	*bytes;
} update_cases[] = {
	{ "who has everything gets nothing", 4, 0, "" },
	{ "who claims more gets nothing", 5, 0, "" },
	{ "one update carries the id", 3, 1,
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\nid: 5f3a9c1e-41\n\n" },
	{ "of several only the last carries it, which need not be the latest", 2, 2,
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":1,\"status\":\"OCCUPIED\"}}\n\n"
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\nid: 5f3a9c1e-41\n\n" },
	{ "many changes of a seat are one update: its latest", 1, 2,
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":1,\"status\":\"OCCUPIED\"}}\n\n"
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\nid: 5f3a9c1e-41\n\n" },
	{ "since 0 all seats are new", 0, 3,
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":1,\"status\":\"OCCUPIED\"}}\n\n"
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\n\n"
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":3,\"status\":\"AVAILABLE\"}}\nid: 5f3a9c1e-41\n\n" },
};

static size_t
sse_updates(struct buf *b, struct stream_id id, const struct seat_map *seats, uint64_t since)
{
	struct view_known	known = { since, VIEW_END, 0 };
	uint64_t		next;
	size_t			n = sse_news_part(b, id, &block_view, seats, &known, 0, SIZE_MAX, &next);

	ck_assert_uint_eq(next, VIEW_END);
	return (n);
}

START_TEST(updates)
{
	struct seat_map	*m = new_block(3);
	struct buf	 b = BUF_INIT;
	size_t		 n;

	change(m, 2, SEAT_HOLD);
	change(m, 1, SEAT_OCCUPIED);
	change(m, 2, SEAT_AVAILABLE);
	n = sse_updates(&b, id41, m, update_cases[_i].since);
	ck_assert(buf_ok(&b));
	unit_same_bytes(update_cases[_i].says, b.data, b.len, update_cases[_i].bytes,
	    strlen(update_cases[_i].bytes));
	ck_assert_uint_eq(n, update_cases[_i].n);
	buf_fini(&b);
	seat_map_free(&m);
}
END_TEST

/* Put together, parts of any size are the whole; only the last has the id. */
START_TEST(parts_are_the_whole)
{
	static const struct view_known nothing;
	struct seat_map	*m = new_block(9);
	struct buf	 whole = BUF_INIT, parts = BUF_INIT;
	uint64_t	 from = VIEW_BEGIN;
	size_t		 n = 0, rounds = 0;

	sse_updates(&whole, id41, m, 0);
	do {
		n += sse_news_part(&parts, id41, &block_view, m, &nothing, from, (size_t)_i, &from);
		ck_assert(from == VIEW_END || strstr(parts.data, "id:") == NULL);
		ck_assert_uint_lt(rounds++, 10);
	} while (from != VIEW_END);
	ck_assert_uint_eq(n, 9);
	unit_same_bytes("parts", parts.data, parts.len, whole.data, whole.len);
	buf_fini(&whole);
	buf_fini(&parts);
	seat_map_free(&m);
}
END_TEST

/* Who has seat 5 and above to version 3 already gets of these only what changed after it. */
START_TEST(what_is_known_ahead_does_not_come_again)
{
	static const struct view_known	 known = { 1, 5, 3 };
	struct seat_map			*m = new_block(9);
	struct buf			 b = BUF_INIT;
	uint64_t			 next;

	change(m, 4, SEAT_HOLD);	/* version 2 */
	change(m, 5, SEAT_HOLD);	/* 3 */
	change(m, 6, SEAT_HOLD);	/* 4 */
	ck_assert_uint_eq(sse_news_part(&b, id41, &block_view, m, &known, 0, SIZE_MAX, &next), 2);
	ck_assert_ptr_nonnull(strstr(b.data, "\"seatId\":4,"));
	ck_assert_ptr_null(strstr(b.data, "\"seatId\":5,"));
	ck_assert_ptr_nonnull(strstr(b.data, "\"seatId\":6,"));
	buf_fini(&b);
	seat_map_free(&m);
}
END_TEST

/* --- a match: 101 has the seats 1 and 4, 102 has 2 and 3, 103 has 5; at version 2 seats 4 and 2 are held */

static const struct seat_row	 match_rows[] = {
	{ 101, 1, NEVER, SEAT_AVAILABLE }, { 101, 4, NEVER, SEAT_AVAILABLE }, { 102, 2, NEVER, SEAT_OCCUPIED },
	{ 102, 3, NEVER, SEAT_AVAILABLE }, { 103, 5, NEVER, SEAT_HOLD }
};

static struct seat_map *
new_match(void)
{
	static const struct seat_row	 held[] = { { 101, 4, NEVER, SEAT_HOLD }, { 102, 2, NEVER, SEAT_HOLD } };
	struct seat_map			*m = seat_map_new();
	struct seat_outcome		 out;

	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, match_rows, nitems(match_rows), 0, &out), 0);
	ck_assert_int_eq(seat_apply(m, SEAT_CHANGES, held, nitems(held), 0, &out), 0);
	return (m);
}

#define BLOCKS	"\"blocks\":[{\"id\":101,\"available\":1,\"hold\":1,\"occupied\":0},"	\
    "{\"id\":102,\"available\":1,\"hold\":1,\"occupied\":0},{\"id\":103,\"available\":0,\"hold\":1,\"occupied\":0}]"
#define COUNTS	"event: count\ndata: {\"status\":200,\"data\":{\"blockId\":101,\"available\":1,\"hold\":1,\"occupied\":0}}\n\n"	\
    "event: count\ndata: {\"status\":200,\"data\":{\"blockId\":102,\"available\":1,\"hold\":1,\"occupied\":0}}\nid: 5f3a9c1e-41\n\n"

static const struct {
	const char	*says;
	struct view	 view;
	const char	*init, *news, *snapshot;
} view_cases[] = {
	{ "counts of all blocks, and no seats", { VIEW_MATCH, 0, { 0 } }, BLOCKS ",\"seats\":[]", COUNTS, BLOCKS },
	{ "with seats: in init by block and id, then by id, and before the counts", { VIEW_MATCH, 2, { 101, 102 } },
	    BLOCKS ",\"seats\":[{\"id\":1,\"blockId\":101,\"status\":\"AVAILABLE\"},{\"id\":4,\"blockId\":101,\"status\":\"HOLD\"},"
	    "{\"id\":2,\"blockId\":102,\"status\":\"HOLD\"},{\"id\":3,\"blockId\":102,\"status\":\"AVAILABLE\"}]",
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"blockId\":102,\"status\":\"HOLD\"}}\n\n"
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":4,\"blockId\":101,\"status\":\"HOLD\"}}\n\n" COUNTS, BLOCKS },
	{ "a block that is not there shows no seats", { VIEW_MATCH, 1, { 99 } }, BLOCKS ",\"seats\":[]", COUNTS, BLOCKS },
	{ "one block, in the bytes of a block's own stream", { VIEW_BLOCK, 1, { 101 } },
	    "\"seats\":[{\"id\":1,\"status\":\"AVAILABLE\"},{\"id\":4,\"status\":\"HOLD\"}]",
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":4,\"status\":\"HOLD\"}}\nid: 5f3a9c1e-41\n\n",
	    "\"seats\":[{\"id\":1,\"status\":\"AVAILABLE\"},{\"id\":4,\"status\":\"HOLD\"}]" },
	{ "… of which nothing changed", { VIEW_BLOCK, 1, { 103 } },
	    "\"seats\":[{\"id\":5,\"status\":\"HOLD\"}]", "", "\"seats\":[{\"id\":5,\"status\":\"HOLD\"}]" },
};

START_TEST(views)
{
	const struct view_known	 known = { 1, VIEW_END, 0 };
	const struct view	*v = &view_cases[_i].view;
	struct seat_map		*m = new_match();
	struct buf		 b = BUF_INIT;
	char			 want[1024];
	uint64_t		 next;

	sse_init(&b, id41, v, m);
	snprintf(want, sizeof(want), "event: init\ndata: {\"status\":200,\"data\":{%s}}\nid: 5f3a9c1e-41\n\n", view_cases[_i].init);
	unit_same_bytes(view_cases[_i].says, b.data, b.len, want, strlen(want));
	buf_reset(&b);
	sse_news_part(&b, id41, v, m, &known, VIEW_BEGIN, SIZE_MAX, &next);
	unit_same_bytes(view_cases[_i].says, b.data, b.len, view_cases[_i].news, strlen(view_cases[_i].news));
	buf_reset(&b);
	sse_snapshot_json(&b, v, m);
	snprintf(want, sizeof(want), "{\"status\":200,\"data\":{%s}}", view_cases[_i].snapshot);
	unit_same_bytes(view_cases[_i].says, b.data, b.len, want, strlen(want));
	buf_fini(&b);
	seat_map_free(&m);
}
END_TEST

static const struct {
	const char	*says;
	uint64_t	 since;
	const char	*rest;
} changes_cases[] = {
	{ "since a version: what changed", 1, "[{\"id\":2,\"status\":\"HOLD\"}]}}" },
	{ "nothing did", 2, "[]}}" },
	{ "since nothing: all, and it says so", 0, "[{\"id\":2,\"status\":\"HOLD\"},{\"id\":3,\"status\":\"AVAILABLE\"}],\"full\":true}}" },
};

START_TEST(changes)
{
	static const struct view	 v = { VIEW_BLOCK, 1, { 102 } };
	struct seat_map			*m = new_match();
	struct buf			 b = BUF_INIT;
	char				 want[256];

	sse_changes_json(&b, id41, INT64_C(1700000000123), &v, m, changes_cases[_i].since);
	snprintf(want, sizeof(want), "{\"status\":200,\"data\":{\"id\":\"5f3a9c1e-41\",\"asOf\":\"2023-11-14T22:13:20.123Z\",\"seats\":%s",
	    changes_cases[_i].rest);
	unit_same_bytes(changes_cases[_i].says, b.data, b.len, want, strlen(want));
	buf_fini(&b);
	seat_map_free(&m);
}
END_TEST

START_TEST(ids_of_any_size_and_many_seats_come_out_whole)
{
	static const struct seat_row	 rows[] = {
		{ 1, 1, NEVER, SEAT_HOLD }, { 1, INT64_MAX, NEVER, SEAT_OCCUPIED }
	};
	struct seat_map		*m = seat_map_new();
	struct seat_outcome	 out;
	struct buf		 b = BUF_INIT;
	const char		*p;
	int64_t			 i;
	char			 want[64];

	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, rows, nitems(rows), 0, &out), 0);
	sse_snapshot_json(&b, &block_view, m);
	ck_assert_str_eq(b.data, "{\"status\":200,\"data\":{\"seats\":[{\"id\":1,\"status\":\"HOLD\"},"
	    "{\"id\":9223372036854775807,\"status\":\"OCCUPIED\"}]}}");
	seat_map_free(&m);
	buf_reset(&b);
	m = new_block(40000);
	sse_snapshot_json(&b, &block_view, m);
	ck_assert(buf_ok(&b));
	p = b.data + strlen("{\"status\":200,\"data\":{\"seats\":[");
	for (i = 1; i <= 40000; i++) {
		snprintf(want, sizeof(want), "{\"id\":%d,\"status\":\"AVAILABLE\"}%s", (int)i,
		    i < 40000 ? "," : "]}}");
		ck_assert_mem_eq(p, want, strlen(want));
		p += strlen(want);
	}
	ck_assert_ptr_eq(p, b.data + b.len);
	buf_fini(&b);
	seat_map_free(&m);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("sse");
	TCase	*tc;

	tc = unit_case(s, "events");
	unit_rows(tc, events, event_cases);
	unit_rows(tc, updates, update_cases);
	tcase_add_test(tc, what_is_known_ahead_does_not_come_again);
	tcase_add_loop_test(tc, parts_are_the_whole, 1, 300);
	unit_rows(tc, views, view_cases);
	unit_rows(tc, changes, changes_cases);
	tcase_add_test(tc, ids_of_any_size_and_many_seats_come_out_whole);
	return (unit_main(s));
}
