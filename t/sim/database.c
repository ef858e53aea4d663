/* SPDX-License-Identifier: ISC */
/*
 * PostgreSQL as a loop sees it: transactions with ids, snapshots, the port functions,
 * and all that can happen to a server and to the connection; db.h is answered from here.
 *
 * A row has one writer at a time (its lock), so of each row there is what is committed
 * and at most one version more, in a transaction.  xmin is the lowest id that has not
 * ended.  A failover puts back what was committed some time ago, with the ids of
 * then: what came later is lost, and its ids are given again.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/must.h"
#include "shared/db.h"
#include "sim.h"
#include "sim_parts.h"

#define CLOCK_BEGIN_MS	INT64_C(1795000000000)	/* the database's clock when the story begins */
#define LOG_US		(120 * SECOND)		/* how far back a failover can go */
#define MAX_QUERIES	16
#define COLUMNS_MAX	10

const char *const status_names[] = { "AVAILABLE", "HOLD", "OCCUPIED", "RESERVED", "none" };
enum plant plant;

struct write {
	int		 seat, level;
	struct row	 row;
};

struct transaction {
	bool		 open, prepared;
	int		 level;
	uint64_t	 xid;		/* 0: none yet */
	struct write	*writes;
	size_t		 n, cap;
};

/* One committed change, for a failover to find its way back. */
struct logged {
	int64_t		 at_us;
	int		 seat;
	bool		 there;
	struct row	 row;
};

static struct transaction transactions[WRITERS];
static struct row	 rows[MAX_SEATS];
static bool		 there[MAX_SEATS];
static uint64_t		 next_xid = 700;
static int64_t		 step_ms;		/* what was stepped so far */

static struct row	 old_rows[MAX_SEATS];	/* before the log begins */
static bool		 old_there[MAX_SEATS];
static struct logged	*journal;
static size_t		 njournal, journal_cap;

/* the server and the way to it */
static int64_t		 down_until_us, frozen_until_us, slow_until_us, slow_us;
static int64_t		 healthy_us;		/* since when */
static int		 errors_left, error_way, odd_left, odd_way;
static bool		 rewriting;		/* the next query is in the middle of a rewrite */
static int64_t		 standby_until_us, standby_lag_us;	/* the connection leads to a standby, that far behind */
static int64_t		 behind_since_us;	/* since when it has said so (SC001), and nothing else was taken in; 0: not */

/* db.h's side: one connection */
struct db {
	enum { OFF, CONNECTING, UP } state;
	unsigned	 generation;
	unsigned	 life;			/* of this connection or attempt: what belongs to another is void */
	int64_t		 pause_ms;
	bool		 busy, abandoned, retrying;
	struct db_query	*queue[MAX_QUERIES];	/* the head is in flight when busy and not abandoned */
	int		 serial[MAX_QUERIES];	/* which submission that is */
	size_t		 n;
};
static struct db	 the_db;
static unsigned		 lives;			/* never given twice, whatever loop it is */
static bool		 submitted;		/* something was, since this was cleared */
static int		 submissions;

/* An answer on its way. */
struct reply {
	unsigned	 life;
	struct polled	 told;
	PGresult	*result;
	const char	*error, *sqlstate;
	bool		 snapshot, counts;	/* counts: the program is to take it in */
};

static void	pump(void);

/* --- the clock ------------------------------------------------------------------ */

int64_t
database_clock_ms(void)
{
	return (CLOCK_BEGIN_MS + step_ms + world_story_us() / 1000);
}

/* When the earliest hold ends that has not ended: the truth changes then without a commit. */
static int64_t	next_expiry_us = NEVER;
static int	expiry_serial;

static void
on_expiry(void *arg, int serial)
{
	(void)arg;
	if (serial != expiry_serial)
		return;
	next_expiry_us = NEVER;
	oracle_truth_all();
	for (int i = 0; i < setup.nseats; i++)
		if (there[i] && rows[i].exists && rows[i].status == HOLD && rows[i].expires_ms != NEVER &&
		    rows[i].expires_ms > database_clock_ms()) {
			int64_t at = world_us - world_us % 1000 + (rows[i].expires_ms - database_clock_ms()) * MS;

			if (at < next_expiry_us)
				next_expiry_us = at;
		}
	if (next_expiry_us < NEVER)
		world_at(next_expiry_us, on_expiry, NULL, ++expiry_serial);
}

static void
watch_expiry(const struct row *r)
{
	int64_t at;

	if (!r->exists || r->status != HOLD || r->expires_ms == NEVER || r->expires_ms <= database_clock_ms())
		return;
	at = world_us + (r->expires_ms - database_clock_ms()) * MS;
	if (at >= next_expiry_us)
		return;
	next_expiry_us = at;
	world_at(at, on_expiry, NULL, ++expiry_serial);
}

void
database_step(int64_t ms)
{
	oracle_clock_stepped(database_clock_ms(), ms);
	step_ms += ms;
	oracle_truth_all();
	next_expiry_us = NEVER;
	world_at(world_us, on_expiry, NULL, ++expiry_serial);
}

/* --- tables -------------------------------------------------------------------- */

int
database_block_of(int seat)
{
	return (seat % setup.nblocks);
}

const struct row *
database_row(int seat)
{
	return (there[seat] ? &rows[seat] : NULL);
}

static void
forget_journal(void)
{
	size_t n;

	for (n = 0; n < njournal && journal[n].at_us < world_us - LOG_US; n++) {
		old_rows[journal[n].seat] = journal[n].row;
		old_there[journal[n].seat] = journal[n].there;
	}
	if (n == 0)
		return;
	memmove(journal, journal + n, (njournal - n) * sizeof(*journal));
	njournal -= n;
}

static void
now_is(int seat)
{
	if (njournal == journal_cap) {
		forget_journal();
		if (njournal * 2 > journal_cap || journal_cap == 0) {
			journal_cap = journal_cap == 0 ? 1024 : journal_cap * 2;
			if ((journal = realloc(journal, journal_cap * sizeof(*journal))) == NULL)
				err(2, "realloc");
		}
	}
	journal[njournal++] = (struct logged){ world_us, seat, there[seat], rows[seat] };
	watch_expiry(&rows[seat]);
	oracle_truth(seat);
}

void
database_start(void)
{
	for (int i = 0; i < setup.nseats; i++)
		there[i] = old_there[i] = true;
	healthy_us = world_us;
}

/* --- transactions ------------------------------------------------------------------ */

static uint64_t
xmin(void)
{
	uint64_t low = next_xid;

	for (int w = 0; w < WRITERS; w++)
		if (transactions[w].open && transactions[w].xid != 0 && transactions[w].xid < low)
			low = transactions[w].xid;
	return (low);
}

static bool
locked(int seat, const struct transaction *but)
{
	for (int w = 0; w < WRITERS; w++)
		for (size_t i = 0; &transactions[w] != but && transactions[w].open && i < transactions[w].n; i++)
			if (transactions[w].writes[i].seat == seat)
				return (true);
	return (false);
}

static void
put_write(struct transaction *t, int seat, const struct row *r)
{
	if (t->n == t->cap) {
		t->cap = t->cap == 0 ? 16 : 2 * t->cap;
		if ((t->writes = realloc(t->writes, t->cap * sizeof(*t->writes))) == NULL)
			err(2, "realloc");
	}
	t->writes[t->n++] = (struct write){ seat, t->level, *r };
}

static struct transaction *
writing(int w, bool *own_r)
{
	struct transaction *t = &transactions[w];

	if (t->open && t->prepared)
		return (NULL);		/* nobody has a session with it any more */
	*own_r = !t->open;
	if (!t->open)
		*t = (struct transaction){ .open = true, .writes = t->writes, .cap = t->cap };
	return (t);
}

void
database_begin(int w)
{
	bool own;

	(void)writing(w, &own);
}

void
database_take_id(int w)
{
	struct transaction *t = &transactions[w];

	if (t->open && t->xid == 0)
		t->xid = next_xid++;
}

void
database_set(int w, int seat, int count, enum status st, int64_t hold_ms)
{
	bool			 own;
	struct transaction	*t = writing(w, &own);

	if (t == NULL)
		return;
	for (int i = 0; i < count; i++) {
		int		 s = (seat + i) % setup.nseats;
		struct row	 r = { true, (uint8_t)st, NEVER, 0 };

		if (!there[s] || locked(s, t))
			continue;
		if (st == HOLD && hold_ms > 0)
			r.expires_ms = database_clock_ms() + hold_ms;
		if (t->xid == 0)
			t->xid = next_xid++;
		r.xid = t->xid;
		put_write(t, s, &r);
	}
	if (own)
		database_end(w, COMMIT);
}

void
database_delete(int w, int seat)
{
	bool			 own;
	struct transaction	*t = writing(w, &own);
	struct row		 gone = { false, AVAILABLE, NEVER, 0 };

	if (t == NULL)
		return;
	if (there[seat] && !locked(seat, t)) {
		if (t->xid == 0)
			t->xid = next_xid++;
		put_write(t, seat, &gone);
	}
	if (own)
		database_end(w, COMMIT);
}

void
database_savepoint(int w)
{
	if (transactions[w].open && !transactions[w].prepared)
		transactions[w].level++;
}

void
database_rollback_to(int w)
{
	struct transaction *t = &transactions[w];

	if (!t->open || t->prepared || t->level == 0)
		return;
	while (t->n > 0 && t->writes[t->n - 1].level >= t->level)
		t->n--;
}

void
database_end(int w, enum ending how)
{
	struct transaction *t = &transactions[w];

	if (!t->open)
		return;
	if (how == PREPARE) {
		t->prepared = t->xid != 0;
		t->open = t->prepared;
		return;
	}
	t->open = t->prepared = false;
	for (size_t i = 0; how == COMMIT && i < t->n; i++) {
		if (!there[t->writes[i].seat])
			continue;
		if (rows[t->writes[i].seat].exists && !t->writes[i].row.exists)
			oracle_only_reconcile(t->writes[i].seat);
		rows[t->writes[i].seat] = t->writes[i].row;
	}
	for (size_t i = 0; how == COMMIT && i < t->n; i++)
		now_is(t->writes[i].seat);
	t->n = 0;
}

void
database_rewrite(bool truncate)
{
	for (int w = 0; w < WRITERS; w++)
		if (transactions[w].open && transactions[w].n > 0)
			return;		/* waits for the lock; it would come later */
	rewriting = true;
	for (int i = 0; truncate && i < setup.nseats; i++)
		if (rows[i].exists) {
			rows[i].exists = false;
			oracle_only_reconcile(i);
			now_is(i);
		}
}

void
database_seat(int seat, bool is)
{
	if (there[seat] == is || locked(seat, NULL))
		return;
	there[seat] = is;
	if (!is)
		rows[seat].exists = false;
	oracle_layout();
	oracle_only_reconcile(seat);
	now_is(seat);
}

void
database_failover(int64_t behind_us, int64_t down_us, bool silent)
{
	uint64_t high = 700;

	forget_journal();
	for (int i = 0; i < setup.nseats; i++) {
		if (silent)
			oracle_only_reconcile(i);
		if (old_there[i] != there[i])
			oracle_layout();
		rows[i] = old_rows[i];
		there[i] = old_there[i];
	}
	for (size_t i = 0; i < njournal && journal[i].at_us <= world_us - behind_us; i++) {
		rows[journal[i].seat] = journal[i].row;
		there[journal[i].seat] = journal[i].there;
	}
	for (int w = 0; w < WRITERS; w++) {
		transactions[w].open = transactions[w].prepared = false;
		transactions[w].n = 0;
	}
	for (int i = 0; i < setup.nseats; i++) {
		if (rows[i].exists && rows[i].xid > high)
			high = rows[i].xid;
		if (there[i] != old_there[i])
			oracle_layout();
	}
	next_xid = high + 1 + (uint64_t)dice_between(D_NET, 40, 0, 5);
	njournal = 0;
	memcpy(old_rows, rows, sizeof(rows));
	memcpy(old_there, there, sizeof(there));
	oracle_truth_all();
	next_expiry_us = NEVER;
	world_at(world_us, on_expiry, NULL, ++expiry_serial);
	if (!silent)
		database_down(down_us);
}

/* --- a standby ---------------------------------------------------------------------------- */

/* The tables as they were so long ago, in the place of those of now; swapped back by the second call. */
static void
swap_past(int64_t at_us, bool into)
{
	static struct row	 now_rows[MAX_SEATS];
	static bool		 now_there[MAX_SEATS];

	if (!into) {
		memcpy(rows, now_rows, sizeof(rows));
		memcpy(there, now_there, sizeof(there));
		return;
	}
	memcpy(now_rows, rows, sizeof(rows));
	memcpy(now_there, there, sizeof(there));
	memcpy(rows, old_rows, sizeof(rows));
	memcpy(there, old_there, sizeof(there));
	for (size_t i = 0; i < njournal && journal[i].at_us <= at_us; i++) {
		rows[journal[i].seat] = journal[i].row;
		there[journal[i].seat] = journal[i].there;
	}
}

/* The lowest id that a standby so far behind has not seen the end of. */
static uint64_t
standby_xmin(int64_t at_us)
{
	uint64_t low = xmin();

	for (size_t i = 0; i < njournal; i++)
		if (journal[i].at_us > at_us && journal[i].row.exists && journal[i].row.xid != 0 && journal[i].row.xid < low)
			low = journal[i].row.xid;
	return (low);
}

static bool
on_standby(void)
{
	return (world_us < standby_until_us);
}

static void
back_to_primary(void *arg, int number)
{
	(void)arg;
	(void)number;
	if (standby_until_us != 0 && !on_standby()) {
		standby_until_us = 0;
		oracle_truth_all();
		database_cut();
	}
}

void
database_standby(int64_t lag_us, int64_t for_us)
{
	if (on_standby())
		return;
	standby_lag_us = lag_us;
	standby_until_us = world_us + for_us;
	for (size_t i = 0; i < njournal; i++)	/* rows that will go there without a trace, too */
		if (journal[i].at_us > world_us - lag_us && (!journal[i].there || !journal[i].row.exists))
			oracle_only_reconcile(journal[i].seat);
	database_cut();
	world_at(standby_until_us, back_to_primary, NULL, 0);
}

/* --- what is wrong with it ------------------------------------------------------------ */

bool
database_answers(void)
{
	return (!on_standby() && world_us >= down_until_us && world_us >= frozen_until_us && world_us >= slow_until_us &&
	    errors_left == 0 && odd_left == 0 && !rewriting && world_us >= stalled_us &&
	    (!loop_lives || (the_db.state == UP && !(the_db.busy && the_db.queue[0]->sent_us < healthy_us))));
}

int64_t
database_healthy_us(void)
{
	return (database_answers() ? healthy_us : NEVER);
}

/* Something is wrong now, or was until now. */
static void
unwell(void)
{
	healthy_us = world_us;
}

static void
lose(const char *why)
{
	struct db	*db = &the_db;
	struct db_query	*flying = db->busy && !db->abandoned && db->n > 0 ? db->queue[0] : NULL;

	(void)why;
	unwell();
	db->state = OFF;
	db->busy = db->abandoned = db->retrying = false;
	db->life = ++lives;
	if (flying != NULL && !(flying->flags & DB_RETRY)) {
		struct db_answer a = { .error = "connection lost", .sqlstate = "", .sent_us = flying->sent_us,
		    .received_us = world_us };

		db_cancel(flying);
		flying->done(flying, &a);
	}
}

static void
on_lost(void *arg, int life)
{
	(void)arg;
	if ((unsigned)life == the_db.life && the_db.state != OFF) {
		lose("cut");
		pump();
	}
}

/* The process hears of it when it runs. */
void
database_cut(void)
{
	unwell();
	if (loop_lives)
		inbox_put(on_lost, NULL, (int)the_db.life);
}

static void
on_well(void *arg, int number)
{
	(void)arg;
	(void)number;
	unwell();
}

void
database_down(int64_t us)
{
	if (world_us + us > down_until_us)
		down_until_us = world_us + us;
	for (int w = 0; w < WRITERS; w++)	/* those that were prepared stay */
		if (transactions[w].open && !transactions[w].prepared)
			database_end(w, ROLLBACK);
	database_cut();
	world_at(down_until_us, on_well, NULL, 0);
}

void
database_freeze(int64_t us)
{
	if (world_us + us > frozen_until_us)
		frozen_until_us = world_us + us;
	unwell();
	world_at(frozen_until_us, on_well, NULL, 0);
}

void
database_slow(int64_t latency_us, int64_t for_us)
{
	slow_us = latency_us;
	slow_until_us = world_us + for_us;
	unwell();
	world_at(slow_until_us, on_well, NULL, 0);
}

void
database_errors(int n, int which)
{
	errors_left = n;
	error_way = which;
	unwell();
}

void
database_odd_answers(int n, int which)
{
	odd_left = n;
	odd_way = which;
	unwell();
}

void
database_heal(void)
{
	down_until_us = frozen_until_us = slow_until_us = 0;
	errors_left = odd_left = 0;
	rewriting = false;
	if (on_standby()) {
		standby_until_us = world_us;
		back_to_primary(NULL, 0);
	}
	for (int w = 0; w < WRITERS; w++)
		database_end(w, w % 2 == 0 ? COMMIT : ROLLBACK);
	database_cut();
}

/* --- results ----------------------------------------------------------------------------- */

enum column { PART, BLOCK, SEAT, STATUS, EXPIRES, CURSOR, AS_OF, COLUMN__MAX };
static const char *const column_words[COLUMN__MAX] = {
	NULL, "block_id", "seat_id", "status", "hold_expires_at", "next_cursor", "as_of"
};

static const int column_bytes[COLUMN__MAX] = { 4, 8, 8, -1, 8, -1, 8 };
static const char *const gathered[] = { "pg_catalog.array_agg(", "pg_catalog.max(" };	/* around a column of the port */
enum { IN_CHANGES = 1, IN_SNAPSHOT = 2 };		/* values of PART */

/* The columns that a query wants, as its text names them. */
struct shape {
	enum column	 column[COLUMNS_MAX];
	int		 n;
	bool		 binary;
	bool		 gathers;	/* arrays for a seat's columns */
};

static struct shape
shape_of(const struct db_query *q)
{
	struct shape	 s = { .n = 0 };
	const char	*p = q->sql + strlen("SELECT "), *end = strstr(q->sql, " FROM seatcast.");

	must(end != NULL && strncmp(q->sql, "SELECT ", 7) == 0);
	for (; p < end; p += strcspn(p, ",") + 2) {
		int c;

		for (c = 0; c < 2; c++)
			if (strncmp(p, gathered[c], strlen(gathered[c])) == 0) {
				p += strlen(gathered[c]);
				s.gathers = true;
			}
		for (c = BLOCK; c < COLUMN__MAX && strncmp(p, column_words[c], strlen(column_words[c])) != 0; c++)
			;
		if (p[0] == '$')
			c = BLOCK;		/* the block's own number, in every row */
		else if (p[0] >= '0' && p[0] <= '9')
			c = PART;
		must(c < COLUMN__MAX && s.n < COLUMNS_MAX);
		s.column[s.n++] = (enum column)c;
	}
	s.binary = (q->flags & DB_BINARY) != 0;
	must(s.binary);
	return (s);
}

static uint64_t xmin_here;		/* of the snapshot that is being answered from */

struct table {
	PGresult	*r;
	struct shape	 shape;
	int		 n;
};

static void
put_bytes(struct table *t, int col, const char *bytes, int len)
{
	must(PQsetvalue(t->r, t->n, col, (char *)(uintptr_t)bytes, len));
}

static void
big_endian(char *b, int64_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		b[i] = (char)((uint64_t)v >> (8 * (bytes - 1 - i)));
}

static void
put_int64(struct table *t, int col, int64_t v, int bytes)
{
	char b[8];

	big_endian(b, v, bytes);
	put_bytes(t, col, b, bytes);
}

static int64_t
postgres_us(int64_t unix_ms)
{
	return ((unix_ms - INT64_C(946684800000)) * 1000);
}

/* Every seat is a row by itself here, where arrays are asked for with arrays of one; len -1: NULL. */
static void
put_one(struct table *t, int col, const char *bytes, int len)
{
	char	b[20 + 4 + 16];
	int	header[] = { 1, len == -1, 0, 1, 1, len };

	if (!t->shape.gathers) {
		put_bytes(t, col, bytes, len);
		return;
	}
	must(len <= 16);
	for (int i = 0; i < 6; i++)
		big_endian(b + 4 * i, header[i], 4);
	if (len > 0)
		memcpy(b + 24, bytes, (size_t)len);
	put_bytes(t, col, b, 24 + (len > 0 ? len : 0));
}

static void
put_one_int64(struct table *t, int col, int64_t v)
{
	char b[8];

	big_endian(b, v, 8);
	put_one(t, col, b, 8);
}

static void
put_row(struct table *t, int part, int seat, const struct row *r, const char *cursor, int64_t as_of_ms)
{
	for (int i = 0; i < t->shape.n; i++) {
		switch (t->shape.column[i]) {
		case PART:
			put_int64(t, i, part, 4);
			break;
		case BLOCK:
			if (seat >= 0)
				put_int64(t, i, BLOCK_ID(database_block_of(seat)), 8);
			else if (!setup.match || seat == -2)
				put_int64(t, i, BLOCK_ID(0), 8);
			else
				put_bytes(t, i, NULL, -1);
			break;
		case SEAT:
			if (seat >= 0)
				put_one_int64(t, i, SEAT_ID(seat));
			else if (seat == -2)
				put_one_int64(t, i, 0);
			else
				put_one(t, i, NULL, -1);
			break;
		case STATUS:
			if (r != NULL)
				put_one(t, i, status_names[r->status], (int)strlen(status_names[r->status]));
			else
				put_one(t, i, NULL, -1);
			break;
		case EXPIRES:
			if (r != NULL && r->expires_ms != NEVER)
				put_one_int64(t, i, postgres_us(r->expires_ms));
			else
				put_one(t, i, NULL, -1);
			break;
		case CURSOR:
			if (cursor != NULL)
				put_bytes(t, i, cursor, (int)strlen(cursor));
			else
				put_bytes(t, i, NULL, -1);
			break;
		case AS_OF:
			if (cursor != NULL)
				put_int64(t, i, postgres_us(as_of_ms), 8);
			else
				put_bytes(t, i, NULL, -1);
			break;
		default:
			must(!"a column");
		}
	}
	t->n++;
}

static void
put_mark(struct table *t, int part, uint64_t cursor)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)cursor);
	put_row(t, part, -1, NULL, text, database_clock_ms());
}

static bool
in_group(int seat)
{
	return (there[seat] && (setup.match || database_block_of(seat) == 0));
}

static void
put_seats(struct table *t, int part, const bool *which)
{
	static const struct row none = { true, AVAILABLE, NEVER, 0 };

	for (int k = 0; k < setup.nseats; k++) {
		int i = odd_left > 0 && odd_way == 4 ? setup.nseats - 1 - k : k;

		if (!in_group(i) || (which != NULL && !which[i]))
			continue;
		if (odd_left > 0 && odd_way == 2) {	/* twice: the last one counts */
			struct row other = { true, OCCUPIED, NEVER, 0 };

			put_row(t, part, i, &other, NULL, 0);
		}
		put_row(t, part, i, rows[i].exists ? &rows[i] : &none, NULL, 0);
	}
	if (odd_left > 0 && odd_way == 3)
		put_row(t, part, -2, &none, NULL, 0);
}

static void
put_snapshot(struct table *t, bool empty)
{
	static bool		 nothing[MAX_SEATS];
	static const struct row	 none = { true, AVAILABLE, NEVER, 0 };

	for (int i = 0; empty && i < setup.nseats; i++)
		if (in_group(i))
			put_row(t, IN_SNAPSHOT, i, &none, NULL, 0);
	put_seats(t, IN_SNAPSHOT, empty ? nothing : NULL);
	if (!(odd_left > 0 && odd_way == 0))
		put_mark(t, IN_SNAPSHOT, plant == PLANT_XMAX ? next_xid : xmin_here);
}

/* changes(): what transactions wrote that had not ended when the cursor was given. */
static void
put_changes(struct table *t, const char *cursor, bool empty)
{
	uint64_t	 since = strtoull(cursor, NULL, 10), here = xmin_here;
	bool		 which[MAX_SEATS];

	for (int i = 0; i < setup.nseats; i++) {
		uint64_t xid = rows[i].xid;

		which[i] = rows[i].exists && (plant == PLANT_GT ? xid > since : plant == PLANT_OWN_XMIN ? xid >= here :
		    xid >= since);
		if (since > here)
			which[i] = true;	/* not of this server's past: the whole block */
		if (empty)
			which[i] = false;
	}
	put_seats(t, IN_CHANGES, which);
	if (odd_left > 0 && odd_way == 0)
		return;
	put_mark(t, IN_CHANGES, plant == PLANT_XMAX ? next_xid : plant == PLANT_TORN ? next_xid : here);
}

/* Who asks a standby for what it does not have yet is told so; who asks without a cursor gets what there is. */
static bool
is_behind(const struct db_query *q)
{
	const char *cursor = q->params[q->nparams - 1];

	return (on_standby() && strstr(q->sql, "changes(") != NULL &&
	    strtoull(cursor, NULL, 10) > standby_xmin(world_us - standby_lag_us));
}

static PGresult *
answer_query(const struct db_query *q, struct polled *told)
{
	struct table	 t = { .shape = shape_of(q) };
	PGresAttDesc	 att[COLUMNS_MAX + 1];
	bool		 torn_apart = rewriting && plant == PLANT_REWRITE;
	int		 n = t.shape.n - (odd_left > 0 && odd_way == 1);

	must(t.shape.n >= 5);
	xmin_here = on_standby() ? standby_xmin(world_us - standby_lag_us) : xmin();
	if ((t.r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK)) == NULL)
		err(2, "PQmakeEmptyPGresult");
	memset(att, 0, sizeof(att));
	for (int i = 0; i < t.shape.n; i++) {
		att[i].name = (char *)(uintptr_t)"c";
		att[i].format = t.shape.binary;
		att[i].typlen = t.shape.gathers && t.shape.column[i] >= SEAT && t.shape.column[i] <= EXPIRES ? -1 :
		    column_bytes[t.shape.column[i]];
	}
	must(PQsetResultAttrs(t.r, n, att));
	if (odd_left > 0 && odd_way == 1)
		return (t.r);
	if (strstr(q->sql, "changes(") != NULL)
		put_changes(&t, q->params[q->nparams - 1], torn_apart);
	if (strstr(q->sql, "snapshot(") != NULL)
		put_snapshot(&t, torn_apart);
	told->as_of_ms = database_clock_ms();
	told->at_us = world_us;
	told->seen_us = on_standby() ? world_us - standby_lag_us : world_us;
	for (int i = 0; i < setup.nseats; i++) {
		told->status[i] = !in_group(i) ? NONE : rows[i].exists ? rows[i].status : AVAILABLE;
		told->expires_ms[i] = rows[i].exists ? rows[i].expires_ms : NEVER;
		if (told->status[i] == ODD)
			told->status[i] = OCCUPIED;
	}
	return (t.r);
}

/* --- a query's way ------------------------------------------------------------------------- */

/* That submission's place in the queue; -1: answered, or forgotten. */
static int
place_of(int serial)
{
	for (size_t i = 0; i < the_db.n; i++)
		if (the_db.serial[i] == serial)
			return ((int)i);
	return (-1);
}

static void
on_reply(void *arg, int life)
{
	struct reply	*r = arg;
	struct db	*db = &the_db;
	struct db_query	*q;
	struct db_answer a;

	if ((unsigned)life != db->life || db->state != UP || !db->busy) {
		PQclear(r->result);
		free(r);
		return;
	}
	db->busy = false;
	if (db->abandoned) {
		db->abandoned = false;
		PQclear(r->result);
		free(r);
		pump();
		return;
	}
	q = db->queue[0];
	if (q->sent_us < healthy_us)
		unwell();
	db_cancel(q);
	a = (struct db_answer){ .result = r->result, .error = r->error, .sqlstate = r->sqlstate != NULL ? r->sqlstate : "",
	    .sent_us = q->sent_us, .received_us = world_us };
	submitted = false;
	if (r->counts)
		oracle_expect(&r->told, a.received_us - a.sent_us);
	q->done(q, &a);
	if (r->counts && !submitted) {
		behind_since_us = 0;
		oracle_polled(&r->told, r->snapshot);
	} else if (r->counts)	/* it was asked before the connection broke: thrown away, and asked again */
		oracle_unexpect();
	PQclear(r->result);
	free(r);
	pump();
}

static void
reply_arrives(void *arg, int life)
{
	inbox_put(on_reply, arg, life);
}

/* The server has it: the snapshot is of this moment. */
static void
on_served(void *arg, int life)
{
	static const char *const states[] = { "42501", "40001", "57014" };
	struct db_query	*q;
	struct reply	*r;

	(void)arg;
	if ((unsigned)life != the_db.life || !the_db.busy || the_db.abandoned || the_db.n == 0)
		return;
	if (world_us < frozen_until_us) {
		world_at(frozen_until_us, on_served, NULL, life);
		return;
	}
	q = the_db.queue[0];
	if ((r = calloc(1, sizeof(*r))) == NULL)
		err(2, "calloc");
	r->snapshot = strstr(q->sql, "snapshot(") != NULL;
	if (errors_left > 0 || (rewriting && plant != PLANT_REWRITE)) {
		r->error = "it does not work";
		r->sqlstate = rewriting ? "40001" : states[error_way % 3];
		if (!rewriting && --errors_left == 0)
			unwell();
	} else if (is_behind(q)) {
		r->error = "this server is behind";
		r->sqlstate = "SC001";
		if (behind_since_us == 0)
			behind_since_us = world_us;
	} else {
		if (on_standby()) {
			oracle_back_in_time(behind_since_us != 0 ? world_us - behind_since_us : 0, strstr(q->sql, "changes(") == NULL);
			swap_past(world_us - standby_lag_us, true);
			oracle_truth_all();
		}
		r->result = answer_query(q, &r->told);
		if (on_standby())
			swap_past(0, false);
		r->counts = !(odd_left > 0 && odd_way < 2);
		if (odd_left > 0 && --odd_left == 0)
			unwell();
	}
	if (rewriting)
		unwell();
	rewriting = false;
	world_at(world_us + dice_between(D_LATENCY, 1, 100, 700) + (world_us < slow_until_us ? slow_us / 2 : 0),
	    reply_arrives, r, life);
}

/* A query has waited for as long as it may: for its answer, or for a connection. */
static void
on_timeout(void *arg, int serial)
{
	struct db_query	*q;
	struct db_answer a = { .error = "the database did not answer in time", .sqlstate = "" };
	int		 place = place_of(serial);

	(void)arg;
	if (place == -1)
		return;
	q = the_db.queue[place];
	q->flags &= ~DB_RETRY;
	if (place == 0 && the_db.busy && !the_db.abandoned)
		lose("no answer to a query in time");
	else {
		a.received_us = world_us;
		db_cancel(q);
		q->done(q, &a);
	}
	pump();
}

static void
timeout_comes(void *arg, int serial)
{
	inbox_put(on_timeout, arg, serial);
}

/* An attempt to connect has come to its end. */
static void
on_connected(void *arg, int life)
{
	struct db *db = &the_db;

	(void)arg;
	if ((unsigned)life != db->life || db->state != CONNECTING)
		return;
	if (world_us < down_until_us || world_us < frozen_until_us) {
		db->state = OFF;
		db->retrying = false;
		db->life = ++lives;
		pump();
		return;
	}
	unwell();
	db->state = UP;
	db->generation++;
	db->pause_ms = 100;
	pump();
}

static void
connected_comes(void *arg, int life)
{
	inbox_put(on_connected, arg, life);
}

static void
on_retry(void *arg, int life)
{
	struct db	*db = &the_db;
	int64_t		 takes = dice_between(D_LATENCY, 3, 500, 5000);

	(void)arg;
	if ((unsigned)life != db->life || db->state != OFF)
		return;
	db->retrying = false;
	db->state = CONNECTING;
	if (world_us < frozen_until_us)
		takes = 3 * SECOND;
	world_at(world_us + takes, connected_comes, NULL, (int)db->life);
}

static void
retry_comes(void *arg, int life)
{
	inbox_put(on_retry, arg, life);
}

/* Whatever can go on goes on. */
static void
pump(void)
{
	struct db	*db = &the_db;
	struct db_query	*q;

	if (db->state == OFF && !db->retrying && (db->n > 0 || db->generation > 0)) {
		int64_t pause_ms = db->pause_ms / 2 + dice_between(D_LATENCY, 4, 0, db->pause_ms / 2);

		if (db->generation == 0 && db->pause_ms == 100)
			pause_ms = 0;
		db->pause_ms = db->pause_ms * 2 > 3000 ? 3000 : db->pause_ms * 2;
		db->retrying = true;
		world_at(world_us + pause_ms * MS, retry_comes, NULL, (int)db->life);
		return;
	}
	if (db->state != UP || db->busy || db->n == 0)
		return;
	q = db->queue[0];
	db->busy = true;
	db->abandoned = false;
	q->sent_us = world_us;
	oracle_query();
	world_at(world_us + dice_between(D_LATENCY, 2, 100, 700) + (world_us < slow_until_us ? slow_us / 2 : 0),
	    on_served, NULL, (int)db->life);
}

static void
go_on(void *arg, int number)
{
	(void)arg;
	(void)number;
	pump();
}

/* --- db.h -------------------------------------------------------------------------------------- */

struct db *
db_new(struct ev_loop *ev, const char *conninfo, struct board_slot *slot)
{
	(void)ev;
	(void)conninfo;
	(void)slot;
	the_db = (struct db){ .state = OFF, .pause_ms = 100, .life = ++lives };
	return (&the_db);
}

void
db_open(struct db *db)
{
	(void)db;
}

void
db_free(struct db **dbp)
{
	*dbp = NULL;
	the_db.n = 0;
	the_db.state = OFF;
	the_db.life = ++lives;
}

void
database_crash_loop(void)
{
	the_db.n = 0;
	the_db.state = OFF;
	the_db.life = ++lives;
}

void
db_submit(struct db *db, struct db_query *q)
{
	must(q->db == NULL && db->n < MAX_QUERIES);
	q->db = db;
	db->queue[db->n] = q;
	db->serial[db->n++] = ++submissions;
	submitted = true;
	world_at(world_us + q->timeout_ms * MS, timeout_comes, NULL, submissions);
	inbox_put(go_on, NULL, 0);
}

void
db_cancel(struct db_query *q)
{
	struct db *db = &the_db;

	for (size_t i = 0; q->db != NULL && i < db->n; i++)
		if (db->queue[i] == q) {
			if (i == 0 && db->busy)
				db->abandoned = true;
			db->n--;
			memmove(&db->queue[i], &db->queue[i + 1], (db->n - i) * sizeof(db->queue[0]));
			memmove(&db->serial[i], &db->serial[i + 1], (db->n - i) * sizeof(db->serial[0]));
			break;
		}
	q->db = NULL;
}

bool
db_is_up(const struct db *db)
{
	return (db->state == UP);
}

unsigned
db_generation(const struct db *db)
{
	return (db->generation);
}

int
plant_parse(const char *name)
{
	static const char *const names[] = { "none", "gt", "own-xmin", "xmax", "torn", "rewrite" };

	for (size_t i = 0; i < nitems(names); i++)
		if (strcmp(name, names[i]) == 0) {
			plant = (enum plant)i;
			return (0);
		}
	return (-1);
}
