/*
 * Why no commit is missed: changes() answers with what was written by any
 * transaction that had not ended when the previous poll's snapshot was taken
 * (changed_xid >= its xmin) and is visible now, and with this snapshot's own
 * xmin as the next cursor; rows and cursor come from one statement.  So the
 * cursor moves only together with the rows taken in, and a poll that fails, is
 * lost or is thrown away leaves it where it was.  See sql/changes_exact.sql.
 *
 * One thing breaks "visible now": a statement that waited for the lock of an
 * ALTER TABLE or TRUNCATE has a snapshot from before, to which the rewritten
 * table is empty (PostgreSQL documentation, 13.6, Caveats).  Such an answer would
 * lack rows and yet move the cursor past them.  So the port functions see to it
 * that each table they read is the one their snapshot knows, and fail with 40001
 * otherwise: the cursor stays, and the next poll, with a snapshot of its own, is
 * asked soon.
 *
 * A reconcile asks for changes and snapshot in one statement, that is of one
 * database snapshot.  What the changes say is taken in first; seats that only
 * the snapshot then changes are late (deleted rows, failovers, the legacy
 * cursor) and counted.
 *
 * A cursor means something on the server that gave it.  After a reconnect it
 * may be another one (failover), so the first poll taken in is a reconcile.
 *
 * Going back in time: a standby that is behind the server polled before would
 * answer with states older than what viewers have seen.  It says so itself
 * (SC001: the cursor is ahead of it), and nothing is taken in: it catches up, or
 * the next connection is a better one.  Viewers hear `stale` meanwhile.  When for
 * 10 s there was nothing else, the newer state is gone (a failover that lost
 * commits): then the server's word counts, from a snapshot without a cursor.
 *
 * When to poll: at ticks, whose phase is the group's own for ever; and early, when
 * somebody wrote or a hold may be over, but never sooner than 100 ms after the last
 * poll went out.  A poll in flight may have its snapshot from before the write, so
 * a wish to be early that comes meanwhile stands until another one has gone out.
 * One timer waits for whichever is next.
 */
#include <bsd/stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mono.h"
#include "base/must.h"
#include "base/opts.h"
#include "loop/expiry.h"
#include "loop/poller.h"
#include "loop/port.h"
#include "shared/board.h"
#include "shared/db.h"

#define POLL_TIMEOUT_MS		5000
#define STALE_MIN_MS		3000
#define GAP_MS			100	/* from one poll to an early one */
#define TICK_SLACK_MS		10	/* a poll that goes out so little before its tick is the tick's */
#define CONFLICT_AGAIN_MS	50	/* after 40001 */
#define CONFLICT_TRIES		2	/* so often in a row; then with the ticks, as a failure */
#define BEHIND_MS		10000	/* so long memory is believed rather than the server (SC001) */

struct poller {
	struct ev_loop		*ev;
	const struct opts	*opts;
	struct board_slot	*slot;
	struct db		*db;
	struct poller_callbacks	 cb;
	void			*arg;
	struct port		 port;
	struct seat_map		*seats;
	struct expiry		 expiry;
	char			*cursor;	/* NULL: none yet */
	struct db_query		 query;
	int			 asked;		/* parts of the query in flight */
	bool			 running;
	bool			 current;	/* polled since resume */
	bool			 stale;		/* set_stale() */
	bool			 hurried;	/* somebody waits for a poll that goes out from now on */
	int			 conflicts;	/* answers in a row that were 40001 */
	int64_t			 behind_ms;	/* monotonic: since when the server is behind memory; 0: it is not */
	unsigned		 generation;	/* of the connection of the last good poll */
	int64_t			 phase_ms;	/* of the ticks, from the key */
	int64_t			 tick_ms;	/* monotonic: when the next tick is */
	int64_t			 again_ms;	/* monotonic: when to ask again after 40001; 0: not */
	int64_t			 reconcile_ms;	/* monotonic: when the next one is due */
	int64_t			 submitted_ms;	/* monotonic: when the last poll went out, good or not */
	int64_t			 asked_us;	/* monotonic: when the last good poll went out; 0: none since resume */
	int64_t			 as_of_ms;	/* database time of the last good poll */
	char			 failure[256];	/* logged already; "" none */
	ev_timer		 due;		/* the next poll */
	ev_timer		 stale_timer;
};

/* splitmix64: spreads neighbouring block ids over the whole interval. */
static uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return (x ^ (x >> 31));
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

/* --- when to poll ----------------------------------------------------------- */

/* The first tick after a time. */
static int64_t
tick_after(const struct poller *f, int64_t ms)
{
	int64_t interval = f->opts->poll_interval_ms, into = (ms - f->phase_ms) % interval;

	return (ms + interval - (into < 0 ? into + interval : into));
}

static int64_t
next_poll_ms(const struct poller *f)
{
	int64_t gap_ms = f->opts->poll_interval_ms / 2 < GAP_MS ? f->opts->poll_interval_ms / 2 : GAP_MS;
	int64_t at = f->tick_ms;

	/* an early poll was just before: the tick waits a little; intervals begin at 100 ms */
	if (at < f->submitted_ms + gap_ms)
		at = f->submitted_ms + gap_ms;
	if (f->query.db != NULL)
		return (at);		/* its answer comes first, and then we are asked again */
	if (f->hurried && f->submitted_ms + GAP_MS < at)
		at = f->submitted_ms + GAP_MS;
	if (f->again_ms != 0 && f->again_ms < at)
		at = f->again_ms;
	return (at);
}

static void
schedule(struct poller *f)
{
	int64_t wait_ms;

	if (!f->running)
		return;
	wait_ms = next_poll_ms(f) - mono_ms();
	ev_now_update(f->ev);
	ev_timer_stop(f->ev, &f->due);
	ev_timer_set(&f->due, wait_ms > 0 ? (double)wait_ms / 1000 : 0., 0.);
	ev_timer_start(f->ev, &f->due);
}

static void
schedule_reconcile(struct poller *f)
{
	int64_t interval = f->opts->reconcile_interval_ms;

	/* 90 to 100 %: the interval is a promise, the jitter keeps groups apart */
	f->reconcile_ms = mono_ms() + interval - (int64_t)arc4random_uniform((uint32_t)(interval / 10) + 1);
}

/* --- taking in ------------------------------------------------------------ */

static int
apply_part(struct poller *f, const PGresult *r, enum port_part part, int64_t now_ms)
{
	struct seat_outcome	out;
	ssize_t			n;
	bool			first = !poller_has_state(f);

	if (!(f->asked & part))
		return (0);
	if ((n = port_rows(&f->port, r, part)) == -1 ||
	    seat_apply(f->seats, part == PORT_SNAPSHOT ? SEAT_SNAPSHOT : SEAT_CHANGES,
	    f->port.rows, (size_t)n, now_ms, &out) == -1)
		return (-1);
	if (first)
		return (0);
	board_add(f->slot, BOARD_seats_changed, (int64_t)out.changed);
	board_add(f->slot, BOARD_expiries, (int64_t)out.expired);
	if (part == PORT_SNAPSHOT && out.changed > out.expired) {
		board_add(f->slot, BOARD_late_seats, (int64_t)(out.changed - out.expired));
		log_debug("reconcile: %zu late seats", out.changed - out.expired);
	}
	return (0);
}

static void
set_cursor(struct poller *f, char *cursor)
{
	free(f->cursor);
	f->cursor = cursor;
}

/*
 * One answer into memory.  NULL, or what is wrong: then the cursor stays and all
 * comes again, but the first part may have been taken in already.
 */
static const char *
take_in(struct poller *f, const struct db_answer *a)
{
	const char	*cursor, *wrong;
	char		*kept;
	int64_t		 as_of_ms, now_ms;

	if ((wrong = port_mark(a->result, &cursor, &as_of_ms)) != NULL)
		return (wrong);
	if ((kept = strdup(cursor)) == NULL)
		return ("out of memory");
	now_ms = expiry_take_in_ms(&f->expiry, as_of_ms);
	if (apply_part(f, a->result, PORT_CHANGES, now_ms) == -1 ||
	    apply_part(f, a->result, PORT_SNAPSHOT, now_ms) == -1) {
		free(kept);
		return ("out of memory");
	}
	set_cursor(f, kept);
	f->as_of_ms = as_of_ms;
	expiry_set_clock(&f->expiry, as_of_ms, a->sent_us + (a->received_us - a->sent_us) / 2);
	return (NULL);
}

/* --- what can go wrong ------------------------------------------------------ */

/* One line for each thing that is wrong, until it is another one or a poll is good. */
static void
complain(struct poller *f, const char *line, const char *advice)
{
	if (strcmp(line, f->failure) != 0)
		log_warnx("poll: %s; %s", line, advice);
	snprintf(f->failure, sizeof(f->failure), "%s", line);
}

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
	complain(f, line, "asking again every interval; `seatcast --check` says more");
}

/* A table was rewritten while the poll waited for it, or a standby's replay took its rows away: the next one sees what there is. */
static void
on_conflict(struct poller *f, const struct db_answer *a)
{
	board_add(f->slot, BOARD_polls_again, 1);
	if (f->conflicts++ >= CONFLICT_TRIES) {
		poll_failed(f, a->error, a->sqlstate);
		return;
	}
	log_debug("poll: %s: asking again", a->error);
	f->again_ms = mono_ms() + CONFLICT_AGAIN_MS;
}

/* The server is a standby that has not replayed what memory knows. */
static void
on_behind(struct poller *f, const struct db_answer *a)
{
	int64_t now = mono_ms();

	board_add(f->slot, BOARD_polls_behind, 1);
	log_debug("poll: %s", a->error);
	if (f->behind_ms == 0)
		f->behind_ms = now;
	if (now - f->behind_ms < BEHIND_MS) {
		complain(f, "this server is behind what was polled before", "keeping what is newer, for 10 s at most");
		return;
	}
	complain(f, "this server has been behind for 10 s", "taking its word: what was newer is lost");
	f->behind_ms = 0;
	set_cursor(f, NULL);		/* so the next poll asks for a snapshot, whatever its time */
	f->again_ms = now;
}

static const struct {
	const char	*sqlstate;
	void		(*handle)(struct poller *f, const struct db_answer *a);
} refusals[] = {
	{ "40001",	on_conflict },
	{ "SC001",	on_behind },
};

static void
poll_refused(struct poller *f, const struct db_answer *a)
{
	size_t i;

	for (i = 0; i < nitems(refusals); i++)
		if (strcmp(a->sqlstate, refusals[i].sqlstate) == 0) {
			refusals[i].handle(f, a);
			return;
		}
	poll_failed(f, a->error, a->sqlstate);
}

/* --- the poll ------------------------------------------------------------- */

static void
poll_good(struct poller *f, const struct db_answer *a)
{
	if (f->failure[0] != '\0')
		log_info("poll: good again");
	f->failure[0] = '\0';
	f->conflicts = 0;
	f->behind_ms = 0;
	f->generation = db_generation(f->db);
	f->current = true;
	board_add(f->slot, BOARD_polls, 1);
	board_observe(f->slot, BOARD_POLL, a->received_us - a->sent_us);
	board_set(f->slot, BOARD_last_poll_timestamp, f->as_of_ms);
	board_set(f->slot, BOARD_last_poll_mono, a->received_us / 1000);
	if (f->asked & PORT_SNAPSHOT) {
		board_add(f->slot, BOARD_reconciles, 1);
		schedule_reconcile(f);
	}
}

/* A good answer, or NULL with what is wrong with it: in memory, on the board, at the viewers. */
static void
poll_answered(struct poller *f, const struct db_answer *a)
{
	uint64_t	 before = seat_version(f->seats);
	int64_t		 asked_us = f->asked_us;
	const char	*wrong = take_in(f, a);

	if (wrong != NULL) {
		poll_failed(f, wrong, "-");
		if (announce(f, before))
			expiry_schedule(&f->expiry);
		return;
	}
	poll_good(f, a);
	expiry_schedule(&f->expiry);
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

static void	poll_now(struct poller *f);

static void
on_poll(struct db_query *q, const struct db_answer *a)
{
	struct poller *f = q->arg;

	if (a->sent_us / 1000 > f->submitted_ms)
		f->submitted_ms = a->sent_us / 1000;	/* it had waited for a connection */
	if (a->result == NULL)
		poll_refused(f, a);
	else if (!(f->asked & PORT_SNAPSHOT) && f->generation != db_generation(f->db))
		poll_now(f);	/* asked before the connection broke, answered after: reconcile instead */
	else
		poll_answered(f, a);
	schedule(f);
}

static void
poll_now(struct poller *f)
{
	if (f->query.db != NULL)
		return;			/* one in flight at most: this tick is skipped */
	f->asked = 0;
	if (f->cursor != NULL)
		f->asked |= PORT_CHANGES;
	if (f->cursor == NULL || mono_ms() >= f->reconcile_ms || f->generation != db_generation(f->db))
		f->asked |= PORT_SNAPSHOT;
	port_ask(&f->port, &f->query, f->asked, f->cursor);
	f->query.flags = DB_RETRY | DB_BINARY;
	f->query.timeout_ms = POLL_TIMEOUT_MS;
	f->query.done = on_poll;
	f->query.arg = f;
	f->submitted_ms = mono_ms();
	f->hurried = false;
	f->again_ms = 0;
	db_submit(f->db, &f->query);
}

static void
on_due(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct poller	*f = w->data;
	int64_t		 now = mono_ms();

	(void)ev;
	(void)revents;
	poll_now(f);
	if (now + TICK_SLACK_MS >= f->tick_ms)
		f->tick_ms = tick_after(f, now + TICK_SLACK_MS);
	schedule(f);
}

static void
on_stale(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)revents;
	ev_timer_stop(ev, w);
	set_stale(w->data, true);
}

/* --- holds that end --------------------------------------------------------- */

static int64_t
ask_early(void *arg)
{
	struct poller	*f = arg;
	int64_t		 wait_ms;

	if (!f->running || f->stale || !db_is_up(f->db))
		return (-1);
	wait_ms = f->submitted_ms + GAP_MS - mono_ms();
	poller_hurry(f);
	return (wait_ms > 0 ? wait_ms : 0);
}

static void
on_holds_ended(void *arg, size_t n)
{
	struct poller *f = arg;

	board_add(f->slot, BOARD_expiries, (int64_t)n);
	board_add(f->slot, BOARD_seats_changed, (int64_t)n);
	(void)announce(f, seat_version(f->seats) - 1);
}

static const struct expiry_callbacks expiry_callbacks = { ask_early, on_holds_ended };

/* --- life ----------------------------------------------------------------- */

struct poller *
poller_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot, struct db *db,
    struct group_key key, const struct poller_callbacks *cb, void *arg)
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
	f->phase_ms = (int64_t)(mix((uint64_t)key.match_id * 31 + mix((uint64_t)key.block_id)) %
	    (uint64_t)o->poll_interval_ms);
	port_init(&f->port, &key);
	expiry_init(&f->expiry, ev, f->seats, &expiry_callbacks, f);
	ev_init(&f->due, on_due);
	ev_init(&f->stale_timer, on_stale);
	f->due.data = f->stale_timer.data = f;
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
	expiry_fini(&f->expiry);
	seat_map_free(&f->seats);
	port_fini(&f->port);
	free(f->cursor);
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
	f->tick_ms = tick_after(f, mono_ms());
	poller_hurry(f);
}

void
poller_pause(struct poller *f)
{
	f->running = false;
	f->current = false;
	f->hurried = false;
	f->asked_us = 0;
	ev_timer_stop(f->ev, &f->due);
	ev_timer_stop(f->ev, &f->stale_timer);
}

void
poller_hurry(struct poller *f)
{
	if (!f->running || f->hurried)
		return;
	f->hurried = true;
	schedule(f);
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

int64_t
poller_age_ms(const struct poller *f)
{
	return ((mono_us() - f->expiry.as_of_mono_us) / 1000);
}
