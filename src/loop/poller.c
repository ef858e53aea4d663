/*
 * Why no commit is missed: changes() answers with what was written by any
 * transaction that had not ended when the previous poll's snapshot was taken
 * (changed_xid >= its xmin) and is visible now, and with this snapshot's own
 * xmin as the next cursor; rows and cursor come from one statement.  So the
 * cursor moves only together with the rows taken in, and a poll that fails, is
 * lost or is thrown away leaves it where it was.  See sql/changes_exact.sql.
 *
 * A reconcile asks for changes and snapshot in one statement, that is of one
 * database snapshot.  What the changes say is taken in first; seats that only
 * the snapshot then changes are late (deleted rows, failovers, the legacy
 * cursor) and counted.
 *
 * A cursor means something on the server that gave it.  After a reconnect it
 * may be another one (failover), so the first poll taken in is a reconcile.
 *
 * The database's clock is estimated between polls: as_of of the last good one
 * plus the monotonic time since the middle of its round trip.
 *
 * When a hold in memory ends by that clock, the database is asked, since the hold
 * may have been renewed after the last poll: AVAILABLE would then be shown for a
 * seat that never was.  That poll takes the next tick's place, and its answer ends
 * what is over.  Without an answer at once, or without a database, the clock does.
 */
#include <bsd/stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "loop/poller.h"
#include "shared/board.h"
#include "shared/db.h"

#define POLL_TIMEOUT_MS		5000
#define STALE_MIN_MS		3000
#define EXPIRY_PAUSE_MS		50	/* between two frames of ended holds: thousands may end in one second */
#define EXPIRY_MARGIN_MS	5	/* the estimated clock may be ahead of the next as_of */
#define EXPIRY_ANSWER_MS	100	/* so long a poll may take to say that a hold is over; then the clock says it */
#define EXPIRY_GAP_MS		100	/* from one poll to the next that an expiry asks for, and a quarter of the interval at most */
#define CLOCK_SLACK_MS		2000	/* a step of the database's clock back by more is believed */

#define COLUMNS									\
	"seat_id::bigint, status::text, CASE WHEN isfinite(hold_expires_at) THEN "	\
	"floor(extract(epoch FROM hold_expires_at) * 1000)::bigint "		\
	"WHEN hold_expires_at = '-infinity' THEN 0 END, "			\
	"next_cursor::text, floor(extract(epoch FROM as_of) * 1000)::bigint"
#define SQL_CHANGES	"SELECT 0, " COLUMNS " FROM seatcast.changes($1::bigint, $2::bigint, $3::text)"
#define SQL_SNAPSHOT	"SELECT 1, " COLUMNS " FROM seatcast.snapshot($1::bigint, $2::bigint)"
enum { COL_PART, COL_SEAT, COL_STATUS, COL_EXPIRES, COL_CURSOR, COL_AS_OF, COLS };
enum { PART_CHANGES, PART_SNAPSHOT };

struct poller {
	struct ev_loop		*ev;
	const struct opts	*opts;
	struct board_slot	*slot;
	struct db		*db;
	struct poller_callbacks	 cb;
	void			*arg;
	int64_t			 block_id;
	char			 match[24], block[24];
	int64_t			 phase_ms;	/* of the ticks, from the key */
	struct seat_map		*seats;
	struct seat_row		*rows;		/* scratch of one poll */
	size_t			 rows_cap;
	char			*cursor;	/* NULL: none yet */
	struct db_query		 query;
	bool			 running;
	bool			 current;	/* polled since resume */
	bool			 stale;
	bool			 odd_status;	/* warned about a status we don't know */
	bool			 odd_id;	/* warned about a seat that can't be */
	bool			 expiry_asked;	/* a poll is to say whether a hold is over */
	int			 asked;		/* parts of the query in flight, as bits */
	unsigned		 generation;	/* of the connection of the last good poll */
	int64_t			 reconcile_ms;	/* monotonic: when the next one is due */
	int64_t			 asked_us;	/* monotonic: when the last good poll went out; 0: none since resume */
	int64_t			 submitted_ms;	/* monotonic: when the last poll was begun, good or not */
	int64_t			 as_of_ms;	/* database time … */
	int64_t			 as_of_mono_us;	/* … at this monotonic time */
	int64_t			 expiry_mono_ms;	/* when holds were ended last, monotonic */
	int64_t			 expired_at_ms;	/* database time up to which holds were ended */
	char			 failure[256];	/* logged already; "" none */
	ev_timer		 tick;
	ev_timer		 stale_timer;
	ev_timer		 expiry;
};

static void	poll_now(struct poller *f);

static int64_t
database_now_ms(const struct poller *f)
{
	return (f->as_of_ms + (mono_us() - f->as_of_mono_us) / 1000);
}

/* splitmix64: spreads neighbouring block ids over the whole interval. */
static uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return (x ^ (x >> 31));
}

static void
schedule_tick(struct poller *f)
{
	int64_t interval = f->opts->poll_interval_ms, into;

	ev_now_update(f->ev);
	into = (mono_ms() - f->phase_ms) % interval;
	if (into < 0)
		into += interval;
	ev_timer_stop(f->ev, &f->tick);
	ev_timer_set(&f->tick, (double)(interval - into) / 1000, 0.);
	ev_timer_start(f->ev, &f->tick);
}

static void
schedule_expiry(struct poller *f)
{
	int64_t next = seat_next_expiry(f->seats), wait_ms, pause_ms;

	ev_timer_stop(f->ev, &f->expiry);
	f->expiry_asked = false;
	if (next == SEAT_NO_EXPIRY)
		return;
	wait_ms = next - database_now_ms(f);
	if (wait_ms > 3600000)
		wait_ms = 3600000;	/* look again then: clocks drift */
	pause_ms = f->expiry_mono_ms + EXPIRY_PAUSE_MS - mono_ms();
	if (wait_ms < pause_ms)
		wait_ms = pause_ms;
	ev_now_update(f->ev);
	ev_timer_set(&f->expiry, wait_ms < 0 ? 0. : (double)(wait_ms + EXPIRY_MARGIN_MS) / 1000, 0.);
	ev_timer_start(f->ev, &f->expiry);
}

static void
schedule_reconcile(struct poller *f)
{
	int64_t interval = f->opts->reconcile_interval_ms;

	/* 90 to 100 %: the interval is a promise, the jitter keeps groups apart */
	f->reconcile_ms = mono_ms() + interval - (int64_t)arc4random_uniform((uint32_t)(interval / 10) + 1);
}

static int64_t
stale_after_ms(const struct poller *f)
{
	int64_t two_polls = 2 * (int64_t)f->opts->poll_interval_ms + 1000;

	return (two_polls > STALE_MIN_MS ? two_polls : STALE_MIN_MS);
}

static void
watch_staleness(struct poller *f)
{
	ev_now_update(f->ev);
	f->stale_timer.repeat = (double)stale_after_ms(f) / 1000;
	ev_timer_again(f->ev, &f->stale_timer);
}

/* The one place where it is decided whether viewers see old seats: for them, the board and ourselves at once. */
static void
set_stale(struct poller *f, bool stale)
{
	if (f->stale == stale)
		return;
	f->stale = stale;
	board_set(f->slot, BOARD_stale, stale);
	f->cb.on_freshness(f->arg);
}

/* After anything that may have moved the seats past version `before`: the board and the viewers know.  true: they moved. */
static bool
announce(struct poller *f, uint64_t before)
{
	if (seat_version(f->seats) == before)
		return (false);
	board_set(f->slot, BOARD_version, (int64_t)seat_version(f->seats));
	board_set(f->slot, BOARD_seats, (int64_t)seat_count(f->seats));
	f->cb.on_change(f->arg);
	return (true);
}

/* --- taking in ------------------------------------------------------------ */

static int64_t
int_at(const PGresult *r, int row, int col, int64_t null_value)
{
	return (PQgetisnull(r, row, col) ? null_value : strtoll(PQgetvalue(r, row, col), NULL, 10));
}

static enum seat_status
status_at(struct poller *f, const PGresult *r, int row)
{
	enum seat_status	 status;
	const char		*text = PQgetvalue(r, row, COL_STATUS);

	if (seat_status_parse(text, &status) == 0)
		return (status);
	if (!f->odd_status)
		log_warnx("poll: seat %s has the status '%s': shown OCCUPIED; the port functions are to "
		    "return AVAILABLE, HOLD or OCCUPIED", PQgetvalue(r, row, COL_SEAT), text);
	f->odd_status = true;
	return (SEAT_OCCUPIED);
}

/* Rows of one part into f->rows.  Their number, or -1: ENOMEM. */
static ssize_t
collect(struct poller *f, const PGresult *r, int part)
{
	int	i, n = PQntuples(r);
	size_t	count = 0;

	if ((size_t)n > f->rows_cap) {
		struct seat_row *grown = reallocarray(f->rows, (size_t)n, sizeof(*grown));

		if (grown == NULL)
			return (-1);
		f->rows = grown;
		f->rows_cap = (size_t)n;
	}
	for (i = 0; i < n; i++) {
		if (int_at(r, i, COL_PART, -1) != part || PQgetisnull(r, i, COL_SEAT))
			continue;
		if ((f->rows[count].id = int_at(r, i, COL_SEAT, 0)) < 1) {
			if (!f->odd_id)
				log_warnx("poll: seat %s is not shown: ids begin with 1", PQgetvalue(r, i, COL_SEAT));
			f->odd_id = true;
			continue;
		}
		f->rows[count].block_id = f->block_id;
		f->rows[count].status = status_at(f, r, i);
		f->rows[count].expires_ms = int_at(r, i, COL_EXPIRES, SEAT_NO_EXPIRY);
		count++;
	}
	return ((ssize_t)count);
}

/* The mark row: next cursor and as_of.  NULL: there is none. */
static const char *
find_mark(const PGresult *r, int64_t *as_of_ms_r)
{
	int i;

	for (i = PQntuples(r) - 1; i >= 0; i--)
		if (PQgetisnull(r, i, COL_SEAT) && !PQgetisnull(r, i, COL_CURSOR) &&
		    !PQgetisnull(r, i, COL_AS_OF)) {
			*as_of_ms_r = int_at(r, i, COL_AS_OF, 0);
			return (PQgetvalue(r, i, COL_CURSOR));
		}
	return (NULL);
}

static int
apply_part(struct poller *f, const PGresult *r, int part, int64_t now_ms)
{
	struct seat_outcome	out;
	ssize_t			n;
	bool			first = !poller_has_state(f);

	if ((n = collect(f, r, part)) == -1 ||
	    seat_apply(f->seats, part == PART_SNAPSHOT ? SEAT_SNAPSHOT : SEAT_CHANGES,
	    f->rows, (size_t)n, now_ms, &out) == -1)
		return (-1);
	if (first)
		return (0);
	board_add(f->slot, BOARD_seats_changed, (int64_t)out.changed);
	board_add(f->slot, BOARD_expiries, (int64_t)out.expired);
	if (part == PART_SNAPSHOT && out.changed > out.expired) {
		board_add(f->slot, BOARD_late_seats, (int64_t)(out.changed - out.expired));
		log_debug("reconcile: %zu late seats", out.changed - out.expired);
	}
	return (0);
}

/*
 * One answer into memory.  NULL, or what is wrong: then the cursor stays and all
 * comes again, but the first part may have been taken in already.
 */
static const char *
take_in(struct poller *f, const struct db_answer *a)
{
	const char	*cursor;
	char		*kept;
	int64_t		 as_of_ms, now_ms;

	if (PQnfields(a->result) != COLS)
		return ("an answer of the wrong shape");
	if ((cursor = find_mark(a->result, &as_of_ms)) == NULL)
		return ("the port function returned no row with next_cursor and as_of");
	/*
	 * Holds ended by the estimated clock stay ended when the real one turns
	 * out to be some milliseconds behind: never an older state after a newer.
	 */
	now_ms = as_of_ms;
	if (f->expired_at_ms > now_ms && f->expired_at_ms - now_ms < CLOCK_SLACK_MS)
		now_ms = f->expired_at_ms;
	if ((kept = strdup(cursor)) == NULL)
		return ("out of memory");
	if (((f->asked & (1 << PART_CHANGES)) && apply_part(f, a->result, PART_CHANGES, now_ms) == -1) ||
	    ((f->asked & (1 << PART_SNAPSHOT)) && apply_part(f, a->result, PART_SNAPSHOT, now_ms) == -1)) {
		free(kept);
		return ("out of memory");
	}
	free(f->cursor);
	f->cursor = kept;
	f->as_of_ms = as_of_ms;
	f->as_of_mono_us = a->sent_us + (a->received_us - a->sent_us) / 2;
	return (NULL);
}

/* --- the poll ------------------------------------------------------------- */

static void
poll_failed(struct poller *f, const char *error, const char *sqlstate)
{
	char line[sizeof(f->failure)];

	board_add(f->slot, BOARD_polls_failed, 1);
	if (sqlstate[0] == '\0') {
		log_debug("poll: %s", error);	/* db has logged the loss */
		return;
	}
	snprintf(line, sizeof(line), "%s (SQLSTATE %s)", error, sqlstate);
	if (strcmp(line, f->failure) != 0)
		log_warnx("poll: %s; asking again every interval; `seatcast --check` says more", line);
	strcpy(f->failure, line);
}

static void
poll_good(struct poller *f, const struct db_answer *a)
{
	if (f->failure[0] != '\0')
		log_info("poll: good again");
	f->failure[0] = '\0';
	f->generation = db_generation(f->db);
	f->current = true;
	board_add(f->slot, BOARD_polls, 1);
	board_observe(f->slot, BOARD_POLL, a->received_us - a->sent_us);
	board_set(f->slot, BOARD_last_poll_timestamp, f->as_of_ms);
	board_set(f->slot, BOARD_last_poll_mono, a->received_us / 1000);
	if (f->asked & (1 << PART_SNAPSHOT)) {
		board_add(f->slot, BOARD_reconciles, 1);
		schedule_reconcile(f);
	}
}

static void
on_poll(struct db_query *q, const struct db_answer *a)
{
	struct poller	*f = q->arg;
	uint64_t	 before = seat_version(f->seats);
	int64_t		 asked_us = f->asked_us;
	const char	*wrong;

	if (a->result == NULL) {
		poll_failed(f, a->error, a->sqlstate);
		return;
	}
	if (!(f->asked & (1 << PART_SNAPSHOT)) && f->generation != db_generation(f->db)) {
		/* asked before the connection broke, answered after: reconcile instead */
		poll_now(f);
		return;
	}
	if ((wrong = take_in(f, a)) != NULL) {
		poll_failed(f, wrong, "-");
		schedule_expiry(f);
		(void)announce(f, before);
		return;
	}
	poll_good(f, a);
	schedule_expiry(f);
	if (f->running)
		watch_staleness(f);
	f->asked_us = a->sent_us;
	/*
	 * What this poll brought was not visible yet when the one before was
	 * asked: nobody has waited for longer than since then.
	 */
	if (announce(f, before) && asked_us != 0)
		board_observe(f->slot, BOARD_DELAY, mono_us() - asked_us);
	set_stale(f, false);
	f->cb.on_poll(f->arg);
}

static void
poll_now(struct poller *f)
{
	bool snapshot = f->cursor == NULL || mono_ms() >= f->reconcile_ms ||
	    f->generation != db_generation(f->db);

	if (f->query.db != NULL)
		return;			/* one in flight at most: this tick is skipped */
	f->asked = (f->cursor != NULL) << PART_CHANGES | snapshot << PART_SNAPSHOT;
	f->query.sql = f->cursor == NULL ? SQL_SNAPSHOT :
	    snapshot ? SQL_CHANGES " UNION ALL " SQL_SNAPSHOT : SQL_CHANGES;
	f->query.params[0] = f->match;
	f->query.params[1] = f->block;
	f->query.params[2] = f->cursor;
	f->query.nparams = f->cursor == NULL ? 2 : 3;
	f->query.flags = DB_RETRY;
	f->query.timeout_ms = POLL_TIMEOUT_MS;
	f->query.done = on_poll;
	f->query.arg = f;
	f->submitted_ms = mono_ms();
	db_submit(f->db, &f->query);
}

static void
on_tick(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct poller *f = w->data;

	(void)ev;
	(void)revents;
	poll_now(f);
	schedule_tick(f);
}

static void
on_stale(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)revents;
	ev_timer_stop(ev, w);
	set_stale(w->data, true);
}

/* Let a poll say whether the hold is over; the timer comes back if none does.  false: nobody to ask, or no answer. */
static bool
ask_for_expiry(struct poller *f)
{
	int64_t interval = f->opts->poll_interval_ms, gap = interval / 4 < EXPIRY_GAP_MS ? interval / 4 : EXPIRY_GAP_MS;
	int64_t now = mono_ms(), wait_ms = EXPIRY_ANSWER_MS;

	if (f->expiry_asked || !f->running || f->stale || !db_is_up(f->db))
		return (false);
	if (f->query.db == NULL && now - f->submitted_ms < gap)
		wait_ms = gap - (now - f->submitted_ms);	/* the last one has just been: ask then */
	else {
		f->expiry_asked = true;
		f->phase_ms = now % interval;
		poll_now(f);
		schedule_tick(f);
	}
	ev_now_update(f->ev);
	ev_timer_set(&f->expiry, (double)wait_ms / 1000, 0.);
	ev_timer_start(f->ev, &f->expiry);
	return (true);
}

static void
on_expiry(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct poller	*f = w->data;
	int64_t		 now = database_now_ms(f);
	uint64_t	 before = seat_version(f->seats);
	size_t		 n;

	(void)ev;
	(void)revents;
	if (seat_next_expiry(f->seats) <= now && ask_for_expiry(f))
		return;
	n = seat_expire(f->seats, now);
	if (n > 0) {
		f->expiry_mono_ms = mono_ms();
		f->expired_at_ms = now;
		board_add(f->slot, BOARD_expiries, (int64_t)n);
		board_add(f->slot, BOARD_seats_changed, (int64_t)n);
	}
	schedule_expiry(f);
	(void)announce(f, before);
}

/* --- life ----------------------------------------------------------------- */

struct poller *
poller_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot, struct db *db,
    int64_t match_id, int64_t block_id, const struct poller_callbacks *cb, void *arg)
{
	struct poller *f;

	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	if ((f->seats = seat_map_new()) == NULL) {
		free(f);
		return (NULL);
	}
	f->ev = ev;
	f->opts = o;
	f->slot = slot;
	f->db = db;
	f->cb = *cb;
	f->arg = arg;
	f->block_id = block_id;
	snprintf(f->match, sizeof(f->match), "%lld", (long long)match_id);
	snprintf(f->block, sizeof(f->block), "%lld", (long long)block_id);
	f->phase_ms = (int64_t)(mix((uint64_t)match_id * 31 + mix((uint64_t)block_id)) %
	    (uint64_t)o->poll_interval_ms);
	ev_init(&f->tick, on_tick);
	ev_init(&f->stale_timer, on_stale);
	ev_init(&f->expiry, on_expiry);
	f->tick.data = f->stale_timer.data = f->expiry.data = f;
	return (f);
}

void
poller_free(struct poller **fp)
{
	struct poller *f = *fp;

	if (f == NULL)
		return;
	poller_pause(f);
	db_cancel(&f->query);
	ev_timer_stop(f->ev, &f->expiry);
	seat_map_free(&f->seats);
	free(f->cursor);
	free(f->rows);
	free(f);
	*fp = NULL;
}

void
poller_resume(struct poller *f)
{
	if (f->running)
		return;
	f->running = true;
	f->current = false;
	if (db_is_up(f->db))
		set_stale(f, false);	/* nobody asked for a while: let the next poll tell */
	watch_staleness(f);
	poll_now(f);
	schedule_tick(f);
}

void
poller_pause(struct poller *f)
{
	f->running = false;
	f->current = false;
	f->asked_us = 0;
	ev_timer_stop(f->ev, &f->tick);
	ev_timer_stop(f->ev, &f->stale_timer);
}

const struct seat_map *
poller_seats(const struct poller *f)
{
	return (f->seats);
}

bool
poller_has_state(const struct poller *f)
{
	return (seat_version(f->seats) > 0);
}

bool
poller_is_current(const struct poller *f)
{
	return (f->current);
}

bool
poller_is_stale(const struct poller *f)
{
	return (f->stale);
}

int64_t
poller_as_of_ms(const struct poller *f)
{
	return (f->as_of_ms);
}
