/*
 * sse: the bytes of SPEC 2, exactly.
 */
#include <stdio.h>
#include <string.h>

#include "seat.h"
#include "sse.h"
#include "unit.h"

#define NEVER	SEAT_NO_EXPIRY
#define NOON	INT64_C(1795348800123)		/* 2026-11-22T12:00:00.123Z */

static const struct sse_id	 id41 = { 0x5f3a9c1e, 41 };

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
		rows[i] = (struct seat_row){ (int64_t)i + 1, NEVER, SEAT_AVAILABLE };
	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, rows, n, 0, &out), 0);
	free(rows);
	return (m);
}

static void
change(struct seat_map *m, int64_t seat_id, enum seat_status status)
{
	const struct seat_row	 row = { seat_id, NEVER, status };
	struct seat_outcome	 out;

	ck_assert_int_eq(seat_apply(m, SEAT_CHANGES, &row, 1, 0, &out), 0);
	ck_assert_uint_eq(out.changed, 1);
}

/* Each puts one kind of event; the row says which bytes that must be. */
static void put_retry(struct buf *b)	{ sse_retry(b, 2317); }
static void put_beat(struct buf *b)	{ sse_beat(b, NOON); }
static void put_stale(struct buf *b)	{ sse_stale(b, NOON); }
static void put_fresh(struct buf *b)	{ sse_fresh(b, NOON); }
static void put_busy(struct buf *b)	{ sse_busy(b, 12345, "too many streams"); }
static void put_nasty(struct buf *b)	{ sse_busy(b, 1, "a\n\ndata: \"/b\"\r"); }

static void
put_init(struct buf *b)
{
	struct seat_map	*m = new_block(3);

	change(m, 2, SEAT_HOLD);
	change(m, 3, SEAT_OCCUPIED);
	sse_init(b, id41, m);
	seat_map_free(&m);
}

static void
put_empty_init(struct buf *b)
{
	struct seat_map	*m = new_block(0);

	sse_init(b, (struct sse_id){ 0x0000000a, UINT64_MAX }, m);
	seat_map_free(&m);
}

static void
put_snapshot(struct buf *b)
{
	struct seat_map	*m = new_block(1);

	sse_snapshot_json(b, m);
	seat_map_free(&m);
}

static const struct {
	const char	*says;
	void		(*put)(struct buf *);
	const char	*bytes;
} event_cases[] = {
	{ "retry is a block of its own", put_retry, "retry: 2317\n\n" },
	{ "init lists every seat by ascending id", put_init,
	    "id: 5f3a9c1e-41\nevent: init\ndata: {\"status\":200,\"data\":{\"seats\":["
	    "{\"id\":1,\"status\":\"AVAILABLE\"},{\"id\":2,\"status\":\"HOLD\"},"
	    "{\"id\":3,\"status\":\"OCCUPIED\"}]}}\n\n" },
	{ "an empty block has an empty list, an epoch leading zeros", put_empty_init,
	    "id: 0000000a-18446744073709551615\nevent: init\ndata: {\"status\":200,\"data\":{\"seats\":[]}}\n\n" },
	{ "the snapshot is the data of init", put_snapshot,
	    "{\"status\":200,\"data\":{\"seats\":[{\"id\":1,\"status\":\"AVAILABLE\"}]}}" },
	{ "beat tells the time of the last good poll", put_beat,
	    "event: beat\ndata: {\"status\":200,\"data\":{\"asOf\":\"2026-11-22T12:00:00.123Z\"}}\n\n" },
	{ "stale is a 503", put_stale,
	    "event: stale\ndata: {\"status\":503,\"data\":{\"asOf\":\"2026-11-22T12:00:00.123Z\"}}\n\n" },
	{ "fresh is a 200", put_fresh,
	    "event: fresh\ndata: {\"status\":200,\"data\":{\"asOf\":\"2026-11-22T12:00:00.123Z\"}}\n\n" },
	{ "busy says when to come back, and why", put_busy,
	    "retry: 12345\n\nevent: busy\ndata: {\"status\":503,\"message\":\"too many streams\"}\n\n" },
	{ "no message can end a line, nor a slash get a backslash", put_nasty,
	    "retry: 1\n\nevent: busy\ndata: {\"status\":503,\"message\":\"a\\n\\ndata: \\\"/b\\\"\\r\"}\n\n" },
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
	    "id: 5f3a9c1e-41\nevent: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\n\n" },
	{ "of several only the last carries it, which need not be the latest", 2, 2,
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":1,\"status\":\"OCCUPIED\"}}\n\n"
	    "id: 5f3a9c1e-41\nevent: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\n\n" },
	{ "many changes of a seat are one update: its latest", 1, 2,
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":1,\"status\":\"OCCUPIED\"}}\n\n"
	    "id: 5f3a9c1e-41\nevent: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\n\n" },
	{ "since 0 all seats are new", 0, 3,
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":1,\"status\":\"OCCUPIED\"}}\n\n"
	    "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":2,\"status\":\"AVAILABLE\"}}\n\n"
	    "id: 5f3a9c1e-41\nevent: update\ndata: {\"status\":200,\"data\":{\"seatId\":3,\"status\":\"AVAILABLE\"}}\n\n" },
};

static size_t
sse_updates(struct buf *b, struct sse_id id, const struct seat_map *seats, uint64_t since)
{
	struct sse_known	known = { since, SSE_NO_SEAT, 0 };
	int64_t			next;
	size_t			n = sse_updates_part(b, id, seats, &known, 0, SIZE_MAX, &next);

	ck_assert_int_eq(next, SSE_NO_SEAT);
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
	static const struct sse_known nothing;
	struct seat_map	*m = new_block(9);
	struct buf	 whole = BUF_INIT, parts = BUF_INIT;
	int64_t		 from = 0;
	size_t		 n = 0, rounds = 0;

	sse_updates(&whole, id41, m, 0);
	do {
		n += sse_updates_part(&parts, id41, m, &nothing, from, (size_t)_i, &from);
		ck_assert(from == SSE_NO_SEAT || strstr(parts.data, "id:") == NULL);
		ck_assert_uint_lt(rounds++, 10);
	} while (from != SSE_NO_SEAT);
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
	static const struct sse_known	 known = { 1, 5, 3 };
	struct seat_map			*m = new_block(9);
	struct buf			 b = BUF_INIT;
	int64_t				 next;

	change(m, 4, SEAT_HOLD);	/* version 2 */
	change(m, 5, SEAT_HOLD);	/* 3 */
	change(m, 6, SEAT_HOLD);	/* 4 */
	ck_assert_uint_eq(sse_updates_part(&b, id41, m, &known, 0, SIZE_MAX, &next), 2);
	ck_assert_ptr_nonnull(strstr(b.data, "\"seatId\":4,"));
	ck_assert_ptr_null(strstr(b.data, "\"seatId\":5,"));
	ck_assert_ptr_nonnull(strstr(b.data, "\"seatId\":6,"));
	buf_fini(&b);
	seat_map_free(&m);
}
END_TEST

START_TEST(ids_of_any_size_and_many_seats_come_out_whole)
{
	static const struct seat_row	 rows[] = {
		{ 1, NEVER, SEAT_HOLD }, { INT64_MAX, NEVER, SEAT_OCCUPIED }
	};
	struct seat_map		*m = seat_map_new();
	struct seat_outcome	 out;
	struct buf		 b = BUF_INIT;
	const char		*p;
	int64_t			 i;
	char			 want[64];

	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, rows, nitems(rows), 0, &out), 0);
	sse_snapshot_json(&b, m);
	ck_assert_str_eq(b.data, "{\"status\":200,\"data\":{\"seats\":[{\"id\":1,\"status\":\"HOLD\"},"
	    "{\"id\":9223372036854775807,\"status\":\"OCCUPIED\"}]}}");
	seat_map_free(&m);
	buf_reset(&b);
	m = new_block(40000);
	sse_snapshot_json(&b, m);
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

static const struct {
	const char	*says, *text;
	int		 rc;
	struct sse_id	 id;
} id_cases[] = {
	{ "an id is epoch and version", "5f3a9c1e-41", 0, { 0x5f3a9c1e, 41 } },
	{ "the least one", "00000001-1", 0, { 1, 1 } },
	{ "the greatest one", "ffffffff-18446744073709551615", 0, { 0xffffffff, UINT64_MAX } },
	{ "none is no id", NULL, -1, { 0, 0 } },
	{ "nothing is no id", "", -1, { 0, 0 } },
	{ "a version may not overflow", "5f3a9c1e-18446744073709551616", -1, { 0, 0 } },
	{ "not even by a digit", "5f3a9c1e-184467440737095516150", -1, { 0, 0 } },
	{ "a version has no leading zero", "5f3a9c1e-041", -1, { 0, 0 } },
	{ "a version is not 0", "5f3a9c1e-0", -1, { 0, 0 } },
	{ "an epoch is not 0", "00000000-41", -1, { 0, 0 } },
	{ "hex digits are lower-case", "5F3A9C1E-41", -1, { 0, 0 } },
	{ "an epoch has 8 of them", "f3a9c1e-41", -1, { 0, 0 } },
	{ "and not 9", "05f3a9c1e-41", -1, { 0, 0 } },
	{ "a version is needed", "5f3a9c1e-", -1, { 0, 0 } },
	{ "so is the dash", "5f3a9c1e", -1, { 0, 0 } },
	{ "a version has no sign", "5f3a9c1e-+41", -1, { 0, 0 } },
	{ "no space before", " 5f3a9c1e-41", -1, { 0, 0 } },
	{ "no space behind", "5f3a9c1e-41 ", -1, { 0, 0 } },
	{ "an id of another service", "1732276800000", -1, { 0, 0 } },
};

START_TEST(ids)
{
	struct sse_id	 id = { 0, 0 };
	char		 text[SSE_ID_BYTES];

	ck_assert_msg(sse_id_parse(id_cases[_i].text, &id) == id_cases[_i].rc, "%s", id_cases[_i].says);
	ck_assert_msg(id.epoch == id_cases[_i].id.epoch && id.version == id_cases[_i].id.version, "%s",
	    id_cases[_i].says);
	if (id_cases[_i].rc == 0) {
		sse_id_format(text, id);
		ck_assert_str_eq(text, id_cases[_i].text);
	}
}
END_TEST

static const struct {
	const char	*says;
	int64_t		 ms;
	const char	*text;
} time_cases[] = {
	{ "the epoch", 0, "1970-01-01T00:00:00.000Z" },
	{ "milliseconds have three digits", NOON, "2026-11-22T12:00:00.123Z" },
	{ "before 1970 they still count upwards", -1, "1969-12-31T23:59:59.999Z" },
	{ "whole seconds before 1970", -1000, "1969-12-31T23:59:59.000Z" },
	{ "leap days", INT64_C(1709164800000), "2024-02-29T00:00:00.000Z" },
	{ "the first moment", INT64_C(-62135596800000), "0001-01-01T00:00:00.000Z" },
	{ "the last moment", INT64_C(253402300799999), "9999-12-31T23:59:59.999Z" },
	{ "earlier is clamped", INT64_MIN, "0001-01-01T00:00:00.000Z" },
	{ "later is clamped", INT64_MAX, "9999-12-31T23:59:59.999Z" },
};

START_TEST(times)
{
	char	 text[SSE_TIME_BYTES];

	sse_time_format(text, time_cases[_i].ms);
	ck_assert_msg(strcmp(text, time_cases[_i].text) == 0, "%s: %s", time_cases[_i].says, text);
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
	tcase_add_test(tc, ids_of_any_size_and_many_seats_come_out_whole);
	tc = unit_case(s, "ids");
	unit_rows(tc, ids, id_cases);
	tc = unit_case(s, "times");
	unit_rows(tc, times, time_cases);
	return (unit_main(s));
}
