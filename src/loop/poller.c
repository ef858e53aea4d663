/* SPDX-License-Identifier: ISC */
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
	int64_t			 due_ms;	/* monotonic: what `due` is set for */
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
stale_after_ms(const struct poller *p)
{
	int64_t two_polls = 2 * (int64_t)p->opts->poll_interval_ms + 1000;

	return (two_polls > STALE_MIN_MS ? two_polls : STALE_MIN_MS);
}

static void
watch_staleness(struct poller *p)
{
	ev_now_update(p->ev);
	p->stale_timer.repeat = (double)stale_after_ms(p) / 1000;
	ev_timer_again(p->ev, &p->stale_timer);
}

/* The one place where it is decided whether viewers see old seats: for them, the board and ourselves at once. */
static void
set_stale(struct poller *p, bool stale)
{
	if (p->stale == stale)
		return;
	p->stale = stale;
	board_set(p->slot, BOARD_stale, stale);
	p->cb.on_freshness(p->arg);
}

/* After anything that may have moved the seats past a version: the board and the viewers know.  true: they moved. */
static bool
announce(struct poller *p, uint64_t before)
{
	if (seat_version(p->seats) == before)
		return (false);
	board_set(p->slot, BOARD_version, (int64_t)seat_version(p->seats));
	board_set(p->slot, BOARD_seats, (int64_t)seat_count(p->seats));
	p->cb.on_change(p->arg);
	return (true);
}

/* --- when to poll ----------------------------------------------------------- */

/* The first tick after a time. */
static int64_t
tick_after(const struct poller *p, int64_t ms)
{
	int64_t interval = p->opts->poll_interval_ms, into = (ms - p->phase_ms) % interval;

	return (ms + interval - (into < 0 ? into + interval : into));
}

static int64_t
next_poll_ms(const struct poller *p)
{
	int64_t gap_ms = p->opts->poll_interval_ms / 2 < GAP_MS ? p->opts->poll_interval_ms / 2 : GAP_MS;
	int64_t at = p->tick_ms;

	/* an early poll was just before: the tick waits a little; intervals begin at 100 ms */
	if (at < p->submitted_ms + gap_ms)
		at = p->submitted_ms + gap_ms;
	if (p->query.db != NULL)
		return (at);		/* its answer comes first, and then we are asked again */
	if (p->hurried && p->submitted_ms + GAP_MS < at)
		at = p->submitted_ms + GAP_MS;
	if (p->again_ms != 0 && p->again_ms < at)
		at = p->again_ms;
	return (at);
}

static void
schedule(struct poller *p)
{
	int64_t at_ms, wait_ms;

	if (!p->running)
		return;
	at_ms = next_poll_ms(p);
	if (ev_is_active(&p->due) && p->due_ms == at_ms)
		return;
	p->due_ms = at_ms;
	wait_ms = at_ms - mono_ms();
	ev_now_update(p->ev);
	ev_timer_stop(p->ev, &p->due);
	ev_timer_set(&p->due, wait_ms > 0 ? (double)wait_ms / 1000 : 0., 0.);
	ev_timer_start(p->ev, &p->due);
}

static void
schedule_reconcile(struct poller *p)
{
	int64_t interval = p->opts->reconcile_interval_ms;

	/* 90 to 100 %: the interval is a promise, the jitter keeps groups apart */
	p->reconcile_ms = mono_ms() + interval - (int64_t)arc4random_uniform((uint32_t)(interval / 10) + 1);
}

/* --- taking in ------------------------------------------------------------ */

static int
apply_part(struct poller *p, const PGresult *r, enum port_part part, int64_t now_ms)
{
	struct seat_outcome	out;
	ssize_t			n;
	bool			first = !poller_has_state(p);

	if (!(p->asked & part))
		return (0);
	if ((n = port_rows(&p->port, r, part)) == -1 ||
	    seat_apply(p->seats, part == PORT_SNAPSHOT ? SEAT_SNAPSHOT : SEAT_CHANGES,
	    p->port.rows, (size_t)n, now_ms, &out) == -1)
		return (-1);
	if (first)
		return (0);
	board_add(p->slot, BOARD_seats_changed, (int64_t)out.changed);
	board_add(p->slot, BOARD_expiries, (int64_t)out.expired);
	if (part == PORT_SNAPSHOT && out.changed > out.expired) {
		board_add(p->slot, BOARD_late_seats, (int64_t)(out.changed - out.expired));
		log_debug("reconcile: %zu late seats", out.changed - out.expired);
	}
	return (0);
}

static void
set_cursor(struct poller *p, char *cursor)
{
	free(p->cursor);
	p->cursor = cursor;
}

/*
 * One answer into memory.  NULL, or what is wrong: then the cursor stays and all
 * comes again, but the first part may have been taken in already.
 */
static const char *
take_in(struct poller *p, const struct db_answer *a)
{
	const char	*cursor, *wrong;
	char		*kept;
	int64_t		 as_of_ms, now_ms;

	if ((wrong = port_mark(a->result, &cursor, &as_of_ms)) != NULL)
		return (wrong);
	if ((kept = strdup(cursor)) == NULL)
		return ("out of memory");
	now_ms = expiry_take_in_ms(&p->expiry, as_of_ms, a->sent_us);
	if (apply_part(p, a->result, PORT_CHANGES, now_ms) == -1 ||
	    apply_part(p, a->result, PORT_SNAPSHOT, now_ms) == -1) {
		free(kept);
		return ("out of memory");
	}
	set_cursor(p, kept);
	p->as_of_ms = as_of_ms;
	expiry_set_clock(&p->expiry, as_of_ms, a->sent_us, a->received_us);
	return (NULL);
}

/* --- what can go wrong ------------------------------------------------------ */

/* One line for each thing that is wrong, until it is another one or a poll is good. */
static void
complain(struct poller *p, const char *line, const char *advice)
{
	if (strcmp(line, p->failure) != 0)
		log_warnx("poll: %s; %s", line, advice);
	snprintf(p->failure, sizeof(p->failure), "%s", line);
}

static void
poll_failed(struct poller *p, const char *error, const char *sqlstate)
{
	char line[sizeof(p->failure)];

	board_add(p->slot, BOARD_polls_failed, 1);
	if (sqlstate[0] == '\0') {
		log_debug("poll: %s", error);	/* db has logged the loss */
		return;
	}
	snprintf(line, sizeof(line), "%s (SQLSTATE %s)", error, sqlstate);
	complain(p, line, "asking again every interval; `seatcast --check` says more");
}

/* A table was rewritten under the poll, or a standby's replay took its rows away: the next one sees what there is. */
static void
on_conflict(struct poller *p, const struct db_answer *a)
{
	board_add(p->slot, BOARD_polls_again, 1);
	if (p->conflicts++ >= CONFLICT_TRIES) {
		poll_failed(p, a->error, a->sqlstate);
		return;
	}
	log_debug("poll: %s: asking again", a->error);
	p->again_ms = mono_ms() + CONFLICT_AGAIN_MS;
}

/* The server is a standby that has not replayed what memory knows. */
static void
on_behind(struct poller *p, const struct db_answer *a)
{
	int64_t now = mono_ms();

	board_add(p->slot, BOARD_polls_behind, 1);
	log_debug("poll: %s", a->error);
	if (p->behind_ms == 0)
		p->behind_ms = now;
	if (now - p->behind_ms < BEHIND_MS) {
		complain(p, "this server is behind what was polled before", "keeping what is newer, for 10 s at most");
		return;
	}
	complain(p, "this server has been behind for 10 s", "taking its word: what was newer is lost");
	p->behind_ms = 0;
	set_cursor(p, NULL);		/* so the next poll asks for a snapshot, whatever its time */
	p->again_ms = now;
}

static const struct {
	const char	*sqlstate;
	void		(*handle)(struct poller *p, const struct db_answer *a);
} refusals[] = {
	{ "40001",	on_conflict },
	{ "SC001",	on_behind },
};

static void
poll_refused(struct poller *p, const struct db_answer *a)
{
	size_t i;

	for (i = 0; i < nitems(refusals); i++)
		if (strcmp(a->sqlstate, refusals[i].sqlstate) == 0) {
			refusals[i].handle(p, a);
			return;
		}
	poll_failed(p, a->error, a->sqlstate);
}

/* --- the poll ------------------------------------------------------------- */

static void
poll_good(struct poller *p, const struct db_answer *a)
{
	if (p->failure[0] != '\0')
		log_info("poll: good again");
	p->failure[0] = '\0';
	p->conflicts = 0;
	p->behind_ms = 0;
	p->generation = db_generation(p->db);
	p->current = true;
	board_add(p->slot, BOARD_polls, 1);
	board_observe(p->slot, BOARD_POLL, a->received_us - a->sent_us);
	board_set(p->slot, BOARD_last_poll_timestamp, p->as_of_ms);
	board_set(p->slot, BOARD_last_poll_mono, a->received_us / 1000);
	if (p->asked & PORT_SNAPSHOT) {
		board_add(p->slot, BOARD_reconciles, 1);
		schedule_reconcile(p);
	}
}

/* A good answer, or NULL with what is wrong with it: in memory, on the board, at the viewers. */
static void
poll_answered(struct poller *p, const struct db_answer *a)
{
	uint64_t	 before = seat_version(p->seats);
	int64_t		 asked_us = p->asked_us;
	const char	*wrong = take_in(p, a);

	if (wrong != NULL) {
		poll_failed(p, wrong, "-");
		if (announce(p, before))
			expiry_schedule(&p->expiry);
		return;
	}
	poll_good(p, a);
	expiry_schedule(&p->expiry);
	if (p->running)
		watch_staleness(p);
	p->asked_us = a->sent_us;
	/*
	 * What this poll brought was not visible yet when the one before was
	 * asked: nobody has waited for longer than since then.
	 */
	if (announce(p, before) && asked_us != 0)
		board_observe(p->slot, BOARD_DELAY, mono_us() - asked_us);
	set_stale(p, false);
	p->cb.on_poll(p->arg);
}

static void	poll_now(struct poller *p);

static void
on_poll(struct db_query *q, const struct db_answer *a)
{
	struct poller *p = q->arg;

	if (a->sent_us / 1000 > p->submitted_ms)
		p->submitted_ms = a->sent_us / 1000;	/* it had waited for a connection */
	if (a->result == NULL)
		poll_refused(p, a);
	else if (!(p->asked & PORT_SNAPSHOT) && p->generation != db_generation(p->db))
		poll_now(p);	/* asked before the connection broke, answered after: reconcile instead */
	else
		poll_answered(p, a);
	schedule(p);
}

static void
poll_now(struct poller *p)
{
	if (p->query.db != NULL)
		return;			/* one in flight at most: this tick is skipped */
	p->asked = 0;
	if (p->cursor != NULL)
		p->asked |= PORT_CHANGES;
	if (p->cursor == NULL || mono_ms() >= p->reconcile_ms || p->generation != db_generation(p->db))
		p->asked |= PORT_SNAPSHOT;
	port_ask(&p->port, &p->query, p->asked, p->cursor);
	p->query.flags = DB_RETRY | DB_BINARY;
	p->query.timeout_ms = POLL_TIMEOUT_MS;
	p->query.done = on_poll;
	p->query.arg = p;
	p->submitted_ms = mono_ms();
	p->hurried = false;
	p->again_ms = 0;
	db_submit(p->db, &p->query);
}

static void
on_due(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct poller	*p = w->data;
	int64_t		 now = mono_ms();

	(void)ev;
	(void)revents;
	poll_now(p);
	if (now + TICK_SLACK_MS >= p->tick_ms)
		p->tick_ms = tick_after(p, now + TICK_SLACK_MS);
	schedule(p);
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
	struct poller	*p = arg;
	int64_t		 wait_ms;

	if (!p->running || p->stale || !db_is_up(p->db))
		return (-1);
	wait_ms = p->submitted_ms + GAP_MS - mono_ms();
	poller_hurry(p);
	return (wait_ms > 0 ? wait_ms : 0);
}

static void
on_holds_ended(void *arg, size_t n)
{
	struct poller *p = arg;

	board_add(p->slot, BOARD_expiries, (int64_t)n);
	board_add(p->slot, BOARD_seats_changed, (int64_t)n);
	(void)announce(p, seat_version(p->seats) - 1);
}

static const struct expiry_callbacks expiry_callbacks = { ask_early, on_holds_ended };

/* --- life ----------------------------------------------------------------- */

struct poller *
poller_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot, struct db *db,
    struct group_key key, const struct poller_callbacks *cb, void *arg)
{
	struct poller *p;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return (NULL);
	if ((p->seats = seat_map_new()) == NULL) {
		free(p);
		return (NULL);
	}
	p->ev = ev;
	p->opts = o;
	p->slot = slot;
	p->db = db;
	p->cb = *cb;
	p->arg = arg;
	p->phase_ms = (int64_t)(mix((uint64_t)key.match_id * 31 + mix((uint64_t)key.block_id)) %
	    (uint64_t)o->poll_interval_ms);
	port_init(&p->port, &key);
	expiry_init(&p->expiry, ev, p->seats, &expiry_callbacks, p);
	ev_init(&p->due, on_due);
	ev_init(&p->stale_timer, on_stale);
	p->due.data = p->stale_timer.data = p;
	return (p);
}

void
poller_free(struct poller **pp)
{
	struct poller *p = *pp;

	if (p == NULL)
		return;
	poller_pause(p);
	db_cancel(&p->query);
	expiry_fini(&p->expiry);
	seat_map_free(&p->seats);
	port_fini(&p->port);
	free(p->cursor);
	free(p);
	*pp = NULL;
}

void
poller_resume(struct poller *p)
{
	if (p->running)
		return;
	p->running = true;
	p->current = false;
	if (db_is_up(p->db))
		set_stale(p, false);	/* nobody asked for a while: let the next poll tell */
	watch_staleness(p);
	p->tick_ms = tick_after(p, mono_ms());
	poller_hurry(p);
}

void
poller_pause(struct poller *p)
{
	p->running = false;
	p->current = false;
	p->hurried = false;
	p->asked_us = 0;
	ev_timer_stop(p->ev, &p->due);
	ev_timer_stop(p->ev, &p->stale_timer);
}

void
poller_hurry(struct poller *p)
{
	if (!p->running || p->hurried)
		return;
	p->hurried = true;
	schedule(p);
}

const struct seat_map *
poller_seats(const struct poller *p)
{
	return (p->seats);
}

bool
poller_has_state(const struct poller *p)
{
	return (seat_version(p->seats) > 0);
}

bool
poller_is_current(const struct poller *p)
{
	return (p->current);
}

bool
poller_is_stale(const struct poller *p)
{
	return (p->stale);
}

int64_t
poller_as_of_ms(const struct poller *p)
{
	return (p->as_of_ms);
}

int64_t
poller_age_ms(const struct poller *p)
{
	return ((mono_us() - p->expiry.as_of_mono_us) / 1000);
}
