/* SPDX-License-Identifier: ISC */
/*
 * poller: a database that answers when and what the test says, on a clock that
 * the test moves.  When the poll goes out, what it asks, and what an answer does.
 */
#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/opts.h"
#include "clock.h"
#include "loop/poller.h"
#include "shared/board.h"
#include "shared/db.h"
#include "unit.h"

#define MS		INT64_C(1000)
#define INTERVAL	1000		/* poll interval of most tests, milliseconds */
#define AS_OF		INT64_C(1700000000000)	/* database time is this and the test's clock */
#define NO_EXPIRY	INT64_MAX
#define ASKED_MAX	512
#define ARRAY_MAX	4096

/* One row of an answer; seat 0: the mark. */
struct row {
	int		 part;
	int64_t		 block, seat;
	const char	*status;
	int64_t		 expires_us;	/* of PostgreSQL's; NO_EXPIRY: NULL */
	const char	*cursor;
};

static struct {
	struct ev_loop		*ev;
	struct board		*board;
	struct board_slot	*slot;
	struct opts		 opts;
	struct poller		*poller;
	struct db_query		*flying;	/* the fake db's: submitted and not answered */
	bool			 up;
	unsigned		 generation;
	int64_t			 asked_us[ASKED_MAX];	/* when each poll went out */
	size_t			 asked;
	unsigned		 changes, freshness, polls;	/* callbacks */
	int			 apply_fails;	/* the how manieth seat_apply from now fails; 0: none */
} w;

/* --- the fake db ------------------------------------------------------------ */

bool db_is_up(const struct db *db) { (void)db; return (w.up); }
unsigned db_generation(const struct db *db) { (void)db; return (w.generation); }

void
db_submit(struct db *db, struct db_query *q)
{
	ck_assert_msg(w.flying == NULL, "two queries at once");
	ck_assert_uint_lt(w.asked, ASKED_MAX);
	w.asked_us[w.asked++] = clock_us;
	q->db = db;
	q->sent_us = clock_us;
	w.flying = q;
}

void
db_cancel(struct db_query *q)
{
	if (w.flying == q)
		w.flying = NULL;
	q->db = NULL;
}

/* seat_apply, but for the one that is to fail for memory. */
int __real_seat_apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows,
    int64_t now_ms, struct seat_outcome *out_r);
int __wrap_seat_apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows,
    int64_t now_ms, struct seat_outcome *out_r);

int
__wrap_seat_apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows,
    int64_t now_ms, struct seat_outcome *out_r)
{
	if (w.apply_fails > 0 && --w.apply_fails == 0)
		return (-1);
	return (__real_seat_apply(m, kind, rows, nrows, now_ms, out_r));
}

static int64_t
postgres_us(int64_t unix_ms)
{
	return ((unix_ms - INT64_C(946684800000)) * 1000);
}

static int64_t
database_ms(void)
{
	return (AS_OF + clock_us / 1000);
}

static void
put_int(PGresult *r, int row, int col, int64_t v, int bytes)
{
	uint64_t	wide = htobe64((uint64_t)v);
	uint32_t	narrow = htobe32((uint32_t)v);
	char		value[8];

	memcpy(value, bytes == 8 ? (void *)&wide : (void *)&narrow, (size_t)bytes);
	ck_assert_int_eq(PQsetvalue(r, row, col, value, bytes), 1);
}

static void
put_text(PGresult *r, int row, int col, const char *text)
{
	char copy[64];

	snprintf(copy, sizeof(copy), "%s", text == NULL ? "" : text);
	ck_assert_int_eq(PQsetvalue(r, row, col, copy, text == NULL ? -1 : (int)strlen(text)), 1);
}

/* An array as the server sends it. */
struct array {
	char	bytes[ARRAY_MAX];
	size_t	len;
};

static void
array_add_bytes(struct array *a, const void *bytes, size_t len)
{
	ck_assert_uint_le(a->len + len, sizeof(a->bytes));
	memcpy(a->bytes + a->len, bytes, len);
	a->len += len;
}

static void
array_add_int(struct array *a, uint32_t v)
{
	uint32_t be = htobe32(v);

	array_add_bytes(a, &be, sizeof(be));
}

static void
array_start(struct array *a, uint32_t type, size_t n)
{
	a->len = 0;
	array_add_int(a, 1);		/* dimensions */
	array_add_int(a, 1);		/* there may be NULLs */
	array_add_int(a, type);
	array_add_int(a, (uint32_t)n);
	array_add_int(a, 1);		/* from element 1 */
}

static void
array_add_int64(struct array *a, int64_t v, bool is_null)
{
	uint64_t be = htobe64((uint64_t)v);

	array_add_int(a, is_null ? UINT32_MAX : sizeof(be));
	if (!is_null)
		array_add_bytes(a, &be, sizeof(be));
}

static void
array_add_text(struct array *a, const char *text)
{
	array_add_int(a, text == NULL ? UINT32_MAX : (uint32_t)strlen(text));
	if (text != NULL)
		array_add_bytes(a, text, strlen(text));
}

static void
put_array(PGresult *r, int row, int col, struct array *a)
{
	ck_assert_int_eq(PQsetvalue(r, row, col, a->bytes, (int)a->len), 1);
}

static PGresult *
empty_result(bool arrays)
{
	static char	 name[] = "column";
	static const int bytes[2][7] = { { 4, 8, 8, -1, 8, -1, 8 }, { 4, 8, -1, -1, -1, -1, 8 } };
	PGresAttDesc	 columns[nitems(bytes[0])];
	PGresult	*r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	size_t		 i;

	memset(columns, 0, sizeof(columns));
	for (i = 0; i < nitems(columns); i++) {
		columns[i].name = name;
		columns[i].typlen = bytes[arrays][i];
		columns[i].format = 1;
	}
	ck_assert_int_eq(PQsetResultAttrs(r, nitems(columns), columns), 1);
	return (r);
}

static bool
has_no_end(const struct row *row)
{
	return (row->seat == 0 || row->expires_us == NO_EXPIRY);
}

static void
put_int_or_null(PGresult *r, int row, int col, int64_t v, bool is_null)
{
	if (is_null)
		put_text(r, row, col, NULL);
	else
		put_int(r, row, col, v, 8);
}

static void
put_seat(PGresult *r, int row, const struct row *seat)
{
	put_int_or_null(r, row, 2, seat->seat, seat->seat == 0);
	put_text(r, row, 3, seat->status);
	put_int_or_null(r, row, 4, seat->expires_us, has_no_end(seat));
}

static void
put_seats(PGresult *r, int row, const struct row *seats, size_t n)
{
	static struct array	ids, statuses, expiries;
	size_t			i;

	array_start(&ids, 20, n);
	array_start(&statuses, 25, n);
	array_start(&expiries, 1184, n);
	for (i = 0; i < n; i++) {
		array_add_int64(&ids, seats[i].seat, seats[i].seat == 0);
		array_add_text(&statuses, seats[i].status);
		array_add_int64(&expiries, seats[i].expires_us, has_no_end(&seats[i]));
	}
	put_array(r, row, 2, &ids);
	put_array(r, row, 3, &statuses);
	put_array(r, row, 4, &expiries);
}

static bool
is_one_group(const struct row *a, const struct row *b)
{
	return (a->part == b->part && a->block == b->block);
}

/* The mark's, if it is among them. */
static const char *
cursor_of(const struct row *rows, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (rows[i].seat == 0)
			return (rows[i].cursor);
	return (NULL);
}

/* As the server would send it: a row for each seat, or a row for those of one part and block. */
static PGresult *
result(bool arrays, const struct row *rows, size_t n)
{
	PGresult	*r = empty_result(arrays);
	const char	*cursor;
	size_t		 i, from = 0;
	int		 row = 0;

	for (i = 1; i <= n; i++) {
		if (arrays && i < n && is_one_group(&rows[from], &rows[i]))
			continue;
		put_int(r, row, 0, rows[from].part, 4);
		put_int(r, row, 1, rows[from].block, 8);
		if (arrays)
			put_seats(r, row, rows + from, i - from);
		else
			put_seat(r, row, rows + from);
		cursor = arrays ? cursor_of(rows + from, i - from) : rows[from].cursor;
		put_text(r, row, 5, cursor);
		put_int_or_null(r, row++, 6, postgres_us(database_ms()), cursor == NULL);
		from = i;
	}
	return (r);
}

static void
answer(PGresult *r, const char *error, const char *sqlstate)
{
	struct db_query		*q = w.flying;
	struct db_answer	 a;

	ck_assert_ptr_nonnull(q);
	a = (struct db_answer){ r, error, sqlstate, q->sent_us, clock_us };
	w.flying = NULL;
	q->db = NULL;
	q->done(q, &a);
	PQclear(r);
}

static void
refuse(const char *sqlstate)
{
	answer(NULL, "the test says no", sqlstate);
}

/* Which parts the query in flight asks for. */
static int
asks(void)
{
	ck_assert_ptr_nonnull(w.flying);
	return ((strstr(w.flying->sql, "changes(") != NULL) | (strstr(w.flying->sql, "snapshot(") != NULL) << 1);
}

enum { CHANGES = 1, SNAPSHOT = 2 };

/* In arrays, if that is what the query asks for. */
static void
answer_rows(const struct row *rows, size_t n)
{
	answer(result((asks() & SNAPSHOT) != 0, rows, n), NULL, "");
}

/* The seats 1 to 3 of block 101, all free but for seat 1, as any poll would see them. */
static void
answer_block_until(const char *status, int64_t expires_us, const char *cursor)
{
	struct row	rows[8];
	size_t		n = 0;
	int		parts = asks();

	if (parts & CHANGES) {
		rows[n++] = (struct row){ 1, 101, 1, status, expires_us, NULL };
		rows[n++] = (struct row){ 1, 101, 0, NULL, 0, cursor };
	}
	if (parts & SNAPSHOT) {
		rows[n++] = (struct row){ 2, 101, 1, status, expires_us, NULL };
		rows[n++] = (struct row){ 2, 101, 2, "AVAILABLE", NO_EXPIRY, NULL };
		rows[n++] = (struct row){ 2, 101, 3, "AVAILABLE", NO_EXPIRY, NULL };
		rows[n++] = (struct row){ 2, 101, 0, NULL, 0, cursor };
	}
	answer_rows(rows, n);
}

static void
answer_block(const char *status, const char *cursor)
{
	answer_block_until(status, NO_EXPIRY, cursor);
}

/* --- the tests' stage --------------------------------------------------------- */

static void on_change(void *arg) { (void)arg; w.changes++; }
static void on_poll(void *arg) { (void)arg; w.polls++; }
static void on_freshness(void *arg) { (void)arg; w.freshness++; }

static void
begin(int64_t block_id)
{
	static const struct poller_callbacks callbacks = { on_change, on_poll, on_freshness };

	memset(&w, 0, sizeof(w));
	log_open(LOG_LEVEL_ERROR, false);
	clock_us = 3600 * 1000 * MS;
	w.up = true;
	w.generation = 1;
	w.opts.poll_interval_ms = INTERVAL;
	w.opts.reconcile_interval_ms = 3600000;
	ck_assert_ptr_nonnull(w.board = board_new(1, NULL));
	ck_assert_ptr_nonnull(w.slot = board_claim(w.board, BOARD_LOOP, 1, block_id));
	ck_assert_ptr_nonnull(w.poller = poller_new(NULL, &w.opts, w.slot, (struct db *)&w,
	    (struct group_key){ 1, block_id }, &callbacks, NULL));
}

/* … and a first snapshot is in. */
static void
begin_polled(void)
{
	begin(101);
	poller_resume(w.poller);
	clock_run(0);
	ck_assert_int_eq(asks(), SNAPSHOT);
	answer_block("AVAILABLE", "100");
	ck_assert(poller_is_current(w.poller));
}

static void
end(void)
{
	poller_free(&w.poller);
	ck_assert_ptr_null(w.flying);
}

static int64_t
last_asked_ms(void)
{
	ck_assert_uint_gt(w.asked, 0);
	return (w.asked_us[w.asked - 1] / MS);
}

/* Go on until the next poll goes out. */
static void
to_next_poll(void)
{
	size_t asked = w.asked;

	while (w.asked == asked) {
		ck_assert_int_lt(clock_us, 7200 * 1000 * MS);
		clock_run(MS);
	}
}

static enum seat_status
seat_is(size_t i)
{
	return (seat_at(poller_seats(w.poller), i)->status);
}

static int64_t
counted(enum board_value v)
{
	return (board_get(w.slot, v));
}

/* --- when it polls ----------------------------------------------------------- */

START_TEST(ticks_keep_their_phase)
{
	int64_t	phase;
	int	i;

	begin_polled();
	to_next_poll();
	phase = last_asked_ms() % INTERVAL;
	for (i = 0; i < 20; i++) {
		clock_run((1 + i) * 3 * MS);
		answer_block("AVAILABLE", "100");
		if (i % 3 == 0) {
			clock_run((i * 37 % 700) * MS);
			poller_hurry(w.poller);
			to_next_poll();
			answer_block("AVAILABLE", "100");
		}
		to_next_poll();
		if (i % 5 == 4) {
			/* a pause does not move them either */
			poller_pause(w.poller);
			answer_block("AVAILABLE", "100");
			clock_run(2345 * MS);
			poller_resume(w.poller);
			to_next_poll();
			answer_block("AVAILABLE", "100");
			to_next_poll();
		}
		ck_assert_int_eq(last_asked_ms() % INTERVAL, phase);
	}
	end();
}
END_TEST

START_TEST(a_slow_poll_skips_ticks)
{
	int64_t	first;

	begin_polled();
	to_next_poll();
	first = last_asked_ms();
	clock_run((2 * INTERVAL + INTERVAL / 2) * MS);
	ck_assert_uint_eq(w.asked, 2);
	answer_block("AVAILABLE", "100");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), first + 3 * INTERVAL);
	end();
}
END_TEST

START_TEST(paused_it_asks_nothing)
{
	size_t asked;

	begin_polled();
	poller_pause(w.poller);
	asked = w.asked;
	poller_hurry(w.poller);
	clock_run(60000 * MS);
	ck_assert_uint_eq(w.asked, asked);
	poller_resume(w.poller);
	clock_run(0);
	ck_assert_uint_eq(w.asked, asked + 1);
	ck_assert_int_eq(asks(), CHANGES);
	end();
}
END_TEST

START_TEST(in_a_hurry_it_polls_at_once_but_100_ms_after_the_last)
{
	begin_polled();
	to_next_poll();
	answer_block("AVAILABLE", "100");
	clock_run(400 * MS);
	poller_hurry(w.poller);
	clock_run(0);
	ck_assert_int_eq(w.asked_us[w.asked - 1], clock_us);
	answer_block("HOLD", "101");
	clock_run(30 * MS);
	poller_hurry(w.poller);
	clock_run(69 * MS);
	ck_assert_ptr_null(w.flying);
	clock_run(1 * MS);
	ck_assert_ptr_nonnull(w.flying);
	end();
}
END_TEST

START_TEST(a_poll_in_flight_is_not_enough)
{
	int64_t first;

	begin_polled();
	to_next_poll();
	first = last_asked_ms();
	clock_run(2 * MS);
	poller_hurry(w.poller);		/* the answer may be of a snapshot from before */
	clock_run(1 * MS);
	answer_block("AVAILABLE", "100");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), first + 100);
	answer_block("AVAILABLE", "100");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), first + INTERVAL);
	end();
}
END_TEST

/* Writers, answers that take their time: what every write may count on, and what the database may. */
START_TEST(every_write_is_asked_for_and_no_poll_is_early)
{
	uint64_t	random = unit_seed(_i);
	int64_t		wrote_us = -1, answer_us = 0;
	size_t		i, k;

	begin_polled();
	w.opts.poll_interval_ms = 200 + (int)unit_random(&random, 2000);
	for (i = 0; i < 20000 && w.asked < ASKED_MAX - 1; i++) {
		clock_run(MS);
		if (w.flying != NULL && answer_us == 0)
			answer_us = clock_us + (int64_t)unit_random(&random, 20) * MS;
		if (w.flying != NULL && w.asked_us[w.asked - 1] >= wrote_us)
			wrote_us = -1;
		if (wrote_us != -1)
			ck_assert_msg(clock_us - wrote_us <= 121 * MS, "a write waits for more than 100 ms and a poll");
		if (w.flying != NULL && clock_us >= answer_us) {
			answer_block("AVAILABLE", "100");
			answer_us = 0;
		}
		if (unit_random(&random, 1 + (i / 500) * 10) == 0) {
			poller_hurry(w.poller);
			if (wrote_us == -1)
				wrote_us = clock_us;
		}
	}
	for (k = 1; k < w.asked; k++)
		ck_assert_int_ge(w.asked_us[k] - w.asked_us[k - 1], 100 * MS);
	end();
}
END_TEST

START_TEST(a_hundred_writes_a_second_cost_ten_polls)
{
	int i;

	begin_polled();
	w.asked = 0;
	for (i = 0; i < 10000; i++) {
		if (i % 10 == 0)
			poller_hurry(w.poller);
		clock_run(MS);
		if (w.flying != NULL)
			answer_block(i % 2 ? "HOLD" : "AVAILABLE", "100");
	}
	ck_assert_uint_le(w.asked, 101);
	ck_assert_uint_ge(w.asked, 95);
	end();
}
END_TEST

/* --- what it asks ------------------------------------------------------------- */

START_TEST(changes_since_the_cursor_and_now_and_then_all)
{
	begin(101);
	w.opts.reconcile_interval_ms = 5000;
	poller_resume(w.poller);
	clock_run(0);
	ck_assert_int_eq(asks(), SNAPSHOT);
	ck_assert_int_eq(w.flying->nparams, 2);
	ck_assert_str_eq(w.flying->params[0], "1");
	ck_assert_str_eq(w.flying->params[1], "101");
	ck_assert(w.flying->flags & DB_BINARY);
	answer_block("AVAILABLE", "100");
	to_next_poll();
	ck_assert_int_eq(asks(), CHANGES);
	ck_assert_int_eq(w.flying->nparams, 3);
	ck_assert_str_eq(w.flying->params[2], "100");
	answer_block("AVAILABLE", "107");
	to_next_poll();
	ck_assert_str_eq(w.flying->params[2], "107");
	answer_block("AVAILABLE", "108");
	clock_run(5000 * MS - INTERVAL * MS);
	if (w.flying != NULL)
		answer_block("AVAILABLE", "108");
	to_next_poll();
	ck_assert_int_eq(asks(), CHANGES | SNAPSHOT);
	end();
}
END_TEST

START_TEST(a_match_is_asked_for_as_one)
{
	static const struct row rows[] = {
		{ 2, 101, 1, "HOLD", NO_EXPIRY, NULL },
		{ 2, 101, 2, "AVAILABLE", NO_EXPIRY, NULL },
		{ 2, 102, 3, "OCCUPIED", NO_EXPIRY, NULL },
		{ 2, 0, 0, NULL, 0, "100" },
	};

	begin(GROUP_WHOLE_MATCH);
	poller_resume(w.poller);
	clock_run(0);
	ck_assert_ptr_nonnull(strstr(w.flying->sql, "match_snapshot($1::bigint)"));
	ck_assert_int_eq(w.flying->nparams, 1);
	answer_rows(rows, nitems(rows));
	ck_assert_uint_eq(seat_count(poller_seats(w.poller)), 3);
	ck_assert_uint_eq(seat_block_count(poller_seats(w.poller)), 2);
	ck_assert_int_eq(seat_block_at(poller_seats(w.poller), 1)->id, 102);
	to_next_poll();
	ck_assert_ptr_nonnull(strstr(w.flying->sql, "match_changes($1::bigint, $2::text)"));
	ck_assert_int_eq(w.flying->nparams, 2);
	ck_assert_str_eq(w.flying->params[1], "100");
	end();
}
END_TEST

START_TEST(another_connection_is_compared_as_a_whole)
{
	begin_polled();
	to_next_poll();
	ck_assert_int_eq(asks(), CHANGES);
	w.generation++;			/* the connection broke, db asked again on the next one */
	answer_block("OCCUPIED", "200");
	ck_assert_msg(seat_is(0) == SEAT_AVAILABLE, "changes of another server were taken in alone");
	ck_assert_int_eq(asks(), CHANGES | SNAPSHOT);
	ck_assert_str_eq(w.flying->params[2], "100");
	answer_block("OCCUPIED", "200");
	ck_assert_int_eq(seat_is(0), SEAT_OCCUPIED);
	end();
}
END_TEST

/* --- what it takes in ------------------------------------------------------------ */

static const struct {
	const char	*says;
	struct row	 row;
	enum seat_status status;
	int64_t		 expires_ms;
} values[] = {
	{ "a hold without an end", { 2, 101, 1, "HOLD", NO_EXPIRY, NULL }, SEAT_HOLD, SEAT_NO_EXPIRY },
	{ "a hold until infinity", { 2, 101, 1, "HOLD", INT64_MAX, NULL }, SEAT_HOLD, SEAT_NO_EXPIRY },
	{ "a hold until -infinity is over", { 2, 101, 1, "HOLD", INT64_MIN, NULL }, SEAT_AVAILABLE, SEAT_NO_EXPIRY },
	{ "a hold until 1969 is over", { 2, 101, 1, "HOLD", INT64_C(-978307200000000), NULL }, SEAT_AVAILABLE, SEAT_NO_EXPIRY },
	{ "milliseconds are cut, not rounded", { 2, 101, 1, "HOLD", INT64_C(2000000000000999), NULL }, SEAT_HOLD,
	    INT64_C(946684800000) + INT64_C(2000000000000) },
	{ "the last year that PostgreSQL knows", { 2, 101, 1, "HOLD", INT64_C(9223371331199999999), NULL }, SEAT_HOLD, SEAT_NO_EXPIRY },
	{ "sold", { 2, 101, 1, "OCCUPIED", NO_EXPIRY, NULL }, SEAT_OCCUPIED, SEAT_NO_EXPIRY },
	{ "a word that is not known is not free", { 2, 101, 1, "SOLD", NO_EXPIRY, NULL }, SEAT_OCCUPIED, SEAT_NO_EXPIRY },
	{ "no word is not free", { 2, 101, 1, NULL, NO_EXPIRY, NULL }, SEAT_OCCUPIED, SEAT_NO_EXPIRY },
};

START_TEST(values_are_read)
{
	const struct row	rows[] = { values[_i].row, { 2, 101, -7, "HOLD", NO_EXPIRY, NULL }, { 2, 101, 0, NULL, 0, "100" } };

	begin(101);
	poller_resume(w.poller);
	clock_run(0);
	answer_rows(rows, nitems(rows));
	ck_assert_msg(seat_count(poller_seats(w.poller)) == 1, "%s: and only what can be a seat is one", values[_i].says);
	ck_assert_msg(seat_is(0) == values[_i].status, "%s: %s", values[_i].says, seat_status_name(seat_is(0)));
	ck_assert_msg(seat_at(poller_seats(w.poller), 0)->expires_ms == values[_i].expires_ms, "%s: until %lld", values[_i].says,
	    (long long)seat_at(poller_seats(w.poller), 0)->expires_ms);
	ck_assert_int_eq(poller_as_of_ms(w.poller), database_ms());
	end();
}
END_TEST

START_TEST(an_answer_without_a_mark_moves_nothing)
{
	static const struct row rows[] = { { 1, 101, 1, "OCCUPIED", NO_EXPIRY, NULL } };

	begin_polled();
	to_next_poll();
	answer_rows(rows, nitems(rows));
	ck_assert_int_eq(seat_is(0), SEAT_AVAILABLE);
	ck_assert_int_eq(counted(BOARD_polls_failed), 1);
	to_next_poll();
	ck_assert_str_eq(w.flying->params[2], "100");
	answer(PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK), NULL, "");
	ck_assert_int_eq(counted(BOARD_polls_failed), 2);
	end();
}
END_TEST

/* What is wrong with one array of an otherwise good answer: a number that stands at `at` is another one, or so many of the last bytes are missing. */
static const struct {
	const char	*says;
	int		 col;
	size_t		 at;
	uint32_t	 number;
	int		 cut;
} broken_arrays[] = {
	{ "as it should be", 2, 0, 1, 0 },
	{ "two dimensions", 2, 0, 2, 0 },
	{ "no dimension", 3, 0, 0, 0 },
	{ "an id too few", 2, 12, 1, 0 },
	{ "an id too many", 2, 12, 3, 0 },
	{ "a status too many", 3, 12, 3, 0 },
	{ "more ends than there are bytes", 4, 12, UINT32_MAX, 0 },
	{ "no element", 4, 12, 0, 0 },
	{ "an id of 4 bytes", 2, 20, 4, 0 },
	{ "an id of 9 bytes", 2, 20, 9, 0 },
	{ "an end of 4 bytes", 4, 20, 4, 0 },
	{ "a status that goes on into the next", 3, 20, 10, 0 },
	{ "a status longer than all", 3, 20, 4096, 0 },
	{ "a status of nearly all that there can be", 3, 20, UINT32_MAX - 1, 0 },
	{ "an id cut off", 2, 0, 1, 1 },
	{ "a status cut off", 3, 0, 1, 1 },
	{ "an end cut off", 4, 0, 1, 1 },
	{ "a length cut off", 2, 0, 1, 9 },
	{ "half a header", 4, 0, 1, 34 },
	{ "bytes after the last", 4, 0, 1, -3 },
	{ "nothing", 3, 0, 1, 1000 },
};

START_TEST(an_array_is_read_to_its_end_and_no_further)
{
	static const struct row rows[] = {
		{ 2, 101, 1, "AVAILABLE", 5, NULL }, { 2, 101, 2, "HOLD", 6, NULL }, { 2, 0, 0, NULL, 0, "100" },
	};
	const char	*says = broken_arrays[_i].says;
	int		 col = broken_arrays[_i].col, len;
	char		 bytes[ARRAY_MAX] = "";
	uint32_t	 be = htobe32(broken_arrays[_i].number);
	PGresult	*r = result(true, rows, nitems(rows));

	len = PQgetlength(r, 0, col);
	memcpy(bytes, PQgetvalue(r, 0, col), (size_t)len);
	memcpy(bytes + broken_arrays[_i].at, &be, sizeof(be));
	len = broken_arrays[_i].cut < len ? len - broken_arrays[_i].cut : 0;
	ck_assert_int_eq(PQsetvalue(r, 0, col, bytes, len), 1);
	begin(GROUP_WHOLE_MATCH);
	poller_resume(w.poller);
	clock_run(0);
	answer(r, NULL, "");
	ck_assert_msg(poller_has_state(w.poller) == (_i == 0), "%s", says);
	ck_assert_msg(counted(BOARD_polls_failed) == (_i != 0), "%s: failed %lld", says, (long long)counted(BOARD_polls_failed));
	end();
}
END_TEST

START_TEST(a_port_may_give_its_cursor_with_every_seat)
{
	static const struct row rows[] = {
		{ 1, 101, 2, "HOLD", NO_EXPIRY, "110" }, { 1, 101, 0, NULL, 0, "111" }, { 1, 101, 1, "OCCUPIED", NO_EXPIRY, "112" },
	};

	begin_polled();
	to_next_poll();
	answer_rows(rows, nitems(rows));
	ck_assert_int_eq(seat_is(0), SEAT_OCCUPIED);
	ck_assert_int_eq(seat_is(1), SEAT_HOLD);
	to_next_poll();
	ck_assert_msg(strcmp(w.flying->params[2], "111") == 0, "the mark is where the seat is NULL: %s", w.flying->params[2]);
	end();
}
END_TEST

START_TEST(viewers_hear_of_what_half_a_reconcile_took_in)
{
	begin_polled();
	w.generation++;
	to_next_poll();
	ck_assert_int_eq(asks(), CHANGES | SNAPSHOT);
	w.apply_fails = 2;
	w.changes = 0;
	answer_block("HOLD", "200");
	ck_assert_int_eq(seat_is(0), SEAT_HOLD);
	ck_assert_msg(w.changes == 1, "the version moved and nobody was told");
	ck_assert_int_eq(counted(BOARD_version), (int64_t)seat_version(poller_seats(w.poller)));
	ck_assert_int_eq(counted(BOARD_polls_failed), 1);
	to_next_poll();
	ck_assert_str_eq(w.flying->params[2], "100");
	end();
}
END_TEST

START_TEST(a_rewritten_table_is_asked_again_soon)
{
	int64_t first;

	begin_polled();
	to_next_poll();
	first = last_asked_ms();
	refuse("40001");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), first + 50);
	ck_assert_str_eq(w.flying->params[2], "100");
	refuse("40001");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), first + 100);
	ck_assert_int_eq(counted(BOARD_polls_failed), 0);
	refuse("40001");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), first + INTERVAL);
	ck_assert_int_eq(counted(BOARD_polls_failed), 1);
	ck_assert_int_eq(counted(BOARD_polls_again), 3);
	ck_assert_str_eq(w.flying->params[2], "100");
	answer_block("AVAILABLE", "100");
	to_next_poll();
	first = last_asked_ms();
	refuse("40001");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), first + 50);
	end();
}
END_TEST

START_TEST(a_server_that_is_behind_is_believed_after_10_s)
{
	int64_t first;

	begin_polled();
	to_next_poll();
	answer_block("OCCUPIED", "200");
	to_next_poll();
	first = last_asked_ms();
	while (last_asked_ms() < first + 10000) {
		ck_assert_int_eq(asks() & CHANGES, CHANGES);
		ck_assert_str_eq(w.flying->params[2], "200");
		refuse("SC001");
		ck_assert_int_eq(seat_is(0), SEAT_OCCUPIED);
		to_next_poll();
	}
	ck_assert(poller_is_stale(w.poller));
	ck_assert_int_eq(counted(BOARD_polls_behind), 10);
	refuse("SC001");
	clock_run(0);
	ck_assert_int_eq(asks(), SNAPSHOT);
	answer_block("AVAILABLE", "150");
	ck_assert_int_eq(seat_is(0), SEAT_AVAILABLE);
	ck_assert(!poller_is_stale(w.poller));
	to_next_poll();
	ck_assert_str_eq(w.flying->params[2], "150");
	end();
}
END_TEST

START_TEST(a_server_that_catches_up_is_no_longer_behind)
{
	int i;

	begin_polled();
	to_next_poll();
	for (i = 0; i < 8; i++) {
		refuse("SC001");
		to_next_poll();
	}
	answer_block("HOLD", "200");
	to_next_poll();
	for (i = 0; i < 8; i++) {
		refuse("SC001");
		to_next_poll();
		ck_assert_str_eq(w.flying->params[2], "200");
	}
	ck_assert_int_eq(seat_is(0), SEAT_HOLD);
	end();
}
END_TEST

/* --- stale ----------------------------------------------------------------------- */

START_TEST(stale_has_one_writer)
{
	begin_polled();
	to_next_poll();
	clock_run(3100 * MS);
	ck_assert(poller_is_stale(w.poller));
	ck_assert_int_eq(counted(BOARD_stale), 1);
	ck_assert_uint_eq(w.freshness, 1);
	poller_pause(w.poller);
	refuse("");
	clock_run(60000 * MS);
	poller_resume(w.poller);
	ck_assert(!poller_is_stale(w.poller));
	ck_assert_int_eq(counted(BOARD_stale), 0);
	ck_assert_uint_eq(w.freshness, 2);
	end();
}
END_TEST

/* --- holds that end ---------------------------------------------------------------- */

/* Seat 1 is held for so long; polled once more. */
static void
hold_for(int64_t ms)
{
	to_next_poll();
	answer_block_until("HOLD", postgres_us(database_ms() + ms), "101");
	ck_assert_int_eq(seat_is(0), SEAT_HOLD);
}

START_TEST(the_database_says_whether_a_hold_is_over)
{
	int64_t tick;

	begin_polled();
	hold_for(500);
	tick = last_asked_ms();
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), tick + 505);
	clock_run(2 * MS);
	answer_block_until("HOLD", postgres_us(database_ms() + 700), "101");
	ck_assert_msg(seat_is(0) == SEAT_HOLD, "renewed in the last moment, and shown as over");
	to_next_poll();
	ck_assert_msg(last_asked_ms() == tick + INTERVAL, "the tick lost its phase");
	answer_block_until("HOLD", postgres_us(database_ms() + 212), "101");
	to_next_poll();
	ck_assert_int_eq(last_asked_ms(), tick + INTERVAL + 217);
	answer_block_until("HOLD", postgres_us(database_ms() - 5), "101");
	ck_assert_int_eq(seat_is(0), SEAT_AVAILABLE);
	ck_assert_int_eq(counted(BOARD_expiries), 1);
	end();
}
END_TEST

START_TEST(without_an_answer_the_clock_ends_it)
{
	begin_polled();
	hold_for(500);
	w.changes = 0;
	clock_run(510 * MS);
	ck_assert_ptr_nonnull(w.flying);
	ck_assert_int_eq(seat_is(0), SEAT_HOLD);
	clock_run(100 * MS);
	ck_assert_int_eq(seat_is(0), SEAT_AVAILABLE);
	ck_assert_uint_eq(w.changes, 1);
	ck_assert_int_eq(counted(BOARD_expiries), 1);
	end();
}
END_TEST

START_TEST(without_a_database_the_clock_ends_it_at_once)
{
	begin_polled();
	hold_for(500);
	w.up = false;
	clock_run(510 * MS);
	ck_assert_int_eq(seat_is(0), SEAT_AVAILABLE);
	end();
}
END_TEST

START_TEST(what_the_clock_ended_stays_ended)
{
	struct row rows[] = { { 1, 101, 1, "HOLD", 0, NULL }, { 1, 101, 0, NULL, 0, "101" } };

	begin_polled();
	hold_for(500);
	rows[0].expires_us = postgres_us(database_ms() + 510);
	w.up = false;
	clock_run(506 * MS);
	ck_assert_int_eq(seat_is(0), SEAT_AVAILABLE);
	w.up = true;
	poller_hurry(w.poller);
	clock_run(0);
	clock_us -= 200 * MS;		/* the database's clock turns out to be behind */
	rows[0].expires_us = postgres_us(database_ms() + 150);
	answer_rows(rows, nitems(rows));
	clock_us += 200 * MS;
	ck_assert_msg(seat_is(0) == SEAT_AVAILABLE, "an older state after a newer one");
	end();
}
END_TEST

START_TEST(a_storm_of_ends_costs_ten_polls_a_second)
{
	int i;

	begin_polled();
	hold_for(300);
	w.asked = 0;
	for (i = 0; i < 3000; i++) {
		clock_run(MS);
		if (w.flying != NULL)	/* another one ends in 7 ms */
			answer_block_until("HOLD", postgres_us(database_ms() + 7), "101");
	}
	ck_assert_uint_le(w.asked, 31);
	ck_assert_uint_ge(w.asked, 20);
	end();
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("poller");
	TCase	*tc;

	tc = unit_case(s, "when");
	tcase_add_test(tc, ticks_keep_their_phase);
	tcase_add_test(tc, a_slow_poll_skips_ticks);
	tcase_add_test(tc, paused_it_asks_nothing);
	tcase_add_test(tc, in_a_hurry_it_polls_at_once_but_100_ms_after_the_last);
	tcase_add_test(tc, a_poll_in_flight_is_not_enough);
	tcase_add_loop_test(tc, every_write_is_asked_for_and_no_poll_is_early, 0, 20);
	tcase_add_test(tc, a_hundred_writes_a_second_cost_ten_polls);
	tc = unit_case(s, "what");
	tcase_add_test(tc, changes_since_the_cursor_and_now_and_then_all);
	tcase_add_test(tc, a_match_is_asked_for_as_one);
	tcase_add_test(tc, another_connection_is_compared_as_a_whole);
	tc = unit_case(s, "answers");
	unit_rows(tc, values_are_read, values);
	tcase_add_test(tc, an_answer_without_a_mark_moves_nothing);
	unit_rows(tc, an_array_is_read_to_its_end_and_no_further, broken_arrays);
	tcase_add_test(tc, a_port_may_give_its_cursor_with_every_seat);
	tcase_add_test(tc, viewers_hear_of_what_half_a_reconcile_took_in);
	tcase_add_test(tc, a_rewritten_table_is_asked_again_soon);
	tcase_add_test(tc, a_server_that_is_behind_is_believed_after_10_s);
	tcase_add_test(tc, a_server_that_catches_up_is_no_longer_behind);
	tcase_add_test(tc, stale_has_one_writer);
	tc = unit_case(s, "expiry");
	tcase_add_test(tc, the_database_says_whether_a_hold_is_over);
	tcase_add_test(tc, without_an_answer_the_clock_ends_it);
	tcase_add_test(tc, without_a_database_the_clock_ends_it_at_once);
	tcase_add_test(tc, what_the_clock_ended_stays_ended);
	tcase_add_test(tc, a_storm_of_ends_costs_ten_polls_a_second);
	return (unit_main(s));
}
