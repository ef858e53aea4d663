/* SPDX-License-Identifier: ISC */
/*
 * The promises of SPEC 2, "What a viewer is promised", held against what browsers show.
 *
 * Each seat has a history: what a query would have shown, from when on.  What a
 * browser is told must be in it, not before what it showed already (never an older
 * state after a newer).  After each good poll, when all that comes of it has been
 * sent, every browser that takes what it is given shows what that poll was told; and
 * polls come in time.  So everybody has a change within one interval, and a state that
 * lasts so long is shown (promises 1, 2).  Between polls holds end by the clock as
 * far as the loop can know it (4).  In the end all show what the database has (3).
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/board.h"
#include "sim.h"
#include "sim_parts.h"

#define EXPIRY_LATE_MS	450	/* the loop asks first, at most so often, and waits for the answer */
#define STEP_SLACK_MS	2000	/* a clock that steps back by less is not believed: holds that ended stay ended */

struct state {
	int64_t		 at_us;
	uint8_t		 status;
};

struct history {
	struct state	*states;
	uint32_t	 n, cap;
};

static struct history	 truth[MAX_SEATS];
static struct polled	 polled, before;	/* the last good poll, and the one before it */
static int64_t		 polled_us;		/* when it was taken in; 0: never */
static int64_t		 round_us, round_at_us;	/* how long one took lately: so wrong the loop's idea of the clock can be */
static int64_t		 only_reconcile_us[MAX_SEATS];	/* when that happened; 0: no */
static bool		 by_clock[MAX_SEATS];	/* the loop's clock has ended a hold that was no longer the row's, unseen */
static bool		 layout_moved, late_is_fine;
static int64_t		 stepped_back_us;	/* the clock did, and no reconcile has been since; 0: no */
static int64_t		 stepped_until_ms;	/* by the database's clock: what ended before the loop heard of the step stays ended */
static int64_t		 queried_us;		/* when the loop asked last */
static int64_t		 watched_from_us = NEVER;

/* --- the loop's own clock ------------------------------------------------------- */

/* The database's clock as the loop can know it. */
static int64_t
loop_clock_ms(void)
{
	return (polled.as_of_ms + (world_us - polled.at_us) / 1000);
}

static int64_t
slack_ms(void)
{
	int64_t slack = round_us / 1000 + 15;

	if (polled.as_of_ms <= stepped_until_ms)
		slack += STEP_SLACK_MS;
	return (slack);
}

/* The loop's own clock may say it, where it could not ask: the hold that it knew of is over. */
static bool
ended_by_clock(const struct polled *p, int seat)
{
	return (p->status[seat] == HOLD && p->expires_ms[seat] <= p->as_of_ms + (world_us - p->at_us) / 1000 + slack_ms());
}

/* Did that poll tell of the hold that the row has? */
static bool
is_of_row(const struct polled *p, int seat)
{
	const struct row *r = database_row(seat);

	return (r != NULL && r->exists && r->status == HOLD && r->expires_ms == p->expires_ms[seat]);
}

/* --- what is true --------------------------------------------------------------- */

static uint8_t
shows_now(int seat)
{
	const struct row *r = database_row(seat);

	if (r == NULL)
		return (NONE);
	if (!r->exists)
		return (AVAILABLE);
	if (r->status == ODD)
		return (OCCUPIED);
	return (r->status == HOLD && r->expires_ms <= database_clock_ms() ? AVAILABLE : r->status);
}

enum status
truth_now(int seat)
{
	return ((enum status)shows_now(seat));
}

void
oracle_truth(int seat)
{
	struct history	*h = &truth[seat];
	uint8_t		 now = shows_now(seat);

	if (h->n > 0 && h->states[h->n - 1].status == now)
		return;
	if (h->n > 0 && h->states[h->n - 1].status != AVAILABLE && !is_of_row(&polled, seat))
		by_clock[seat] |= ended_by_clock(&polled, seat);
	if (h->n == h->cap) {
		h->cap = h->cap == 0 ? 8 : 2 * h->cap;
		if ((h->states = realloc(h->states, h->cap * sizeof(*h->states))) == NULL)
			err(2, "realloc");
	}
	h->states[h->n++] = (struct state){ world_us, now };
}

void
oracle_truth_all(void)
{
	for (int i = 0; i < setup.nseats; i++)
		oracle_truth(i);
}

void
oracle_start(void)
{
	oracle_truth_all();
}

void
oracle_only_reconcile(int seat)
{
	only_reconcile_us[seat] = world_us;
	late_is_fine = true;
}

void
oracle_layout(void)
{
	layout_moved = true;
}

bool
oracle_layout_moved(void)
{
	return (layout_moved);
}

bool
oracle_late_is_fine(void)
{
	return (late_is_fine);
}

static void
stays_ended_until(int64_t clock_ms)
{
	if (clock_ms > stepped_until_ms)
		stepped_until_ms = clock_ms;
}

/*
 * Back: what has ended in memory is a hold again for who reads the row, and nothing
 * wrote to it.  A reconcile tells.
 */
void
oracle_clock_stepped(int64_t before_ms, int64_t by_ms)
{
	if (by_ms < 0)
		stepped_back_us = world_us;
	stays_ended_until(before_ms + 500);
	late_is_fine = true;
}

/* --- polls ---------------------------------------------------------------------------- */

int64_t
oracle_last_good_us(void)
{
	return (polled_us);
}

void
oracle_query(void)
{
	int64_t gap_ms = setup.opts.poll_interval_ms / 2 < 100 ? setup.opts.poll_interval_ms / 2 : 100;
	int64_t since = world_us - queried_us, well = database_healthy_us() == NEVER ? NEVER :
	    (database_healthy_us() > stalled_us ? database_healthy_us() : stalled_us) + setup.opts.poll_interval_ms * MS;

	if (queried_us != 0 && well < queried_us && watched_from_us < queried_us - SECOND && since < (gap_ms - 2) * MS && master_loop_age_us() > since)
		broken("polls", "the database is asked again after %lld ms", (long long)since / 1000);
	queried_us = world_us;
}

/* Who is given its bytes late is given them with what was known then. */
static void
note_by_clock(void)
{
	for (int i = 0; i < setup.nseats; i++)
		if (ended_by_clock(&polled, i) && truth_now(i) != AVAILABLE)
			by_clock[i] = true;
}

void
oracle_expect(const struct polled *p, int64_t round)
{
	if (round > round_us || world_us > round_at_us + 15 * SECOND) {
		round_us = round;
		round_at_us = world_us;
	}
	note_by_clock();
	if (stepped_back_us > polled.at_us)	/* its own clock went on as before, until now */
		stays_ended_until(loop_clock_ms() + 500);
	before = polled;
	polled = *p;
}

/* Who knows something newer keeps it for 10 s, before it takes the word of a standby that is behind. */
void
oracle_back_in_time(int64_t behind_us, bool without_cursor)
{
	if (without_cursor && polled_us != 0 && master_loop_age_us() > world_us - polled_us && behind_us < 9900 * MS)
		broken("back in time", "the loop takes the word of a standby that is behind, %lld ms after it said so",
		    (long long)behind_us / 1000);
	late_is_fine = true;
}

void
oracle_unexpect(void)
{
	polled = before;
}

void
oracle_polled(const struct polled *p, bool snapshot)
{
	polled_us = world_us;
	tally->polls++;
	if (snapshot && stepped_back_us != 0 && p->at_us >= stepped_back_us)
		stepped_back_us = 0;
	for (int i = 0; snapshot && i < setup.nseats; i++)
		if (only_reconcile_us[i] != 0 && only_reconcile_us[i] <= p->seen_us)
			only_reconcile_us[i] = 0;
	if (!master_drains() && world_us >= stalled_us)
		browsers_polled();
}

bool
oracle_unsure(int seat)
{
	return (only_reconcile_us[seat] != 0 || stepped_back_us != 0 || (polled.status[seat] == HOLD &&
	    polled.expires_ms[seat] > polled.as_of_ms - 1000 && polled.expires_ms[seat] <= loop_clock_ms() + slack_ms()));
}

enum status
oracle_wanted(int seat)
{
	if (polled.status[seat] == HOLD && polled.expires_ms[seat] <= loop_clock_ms())
		return (AVAILABLE);
	return ((enum status)polled.status[seat]);
}

bool
oracle_matches(int seat, enum status shown)
{
	enum status	 was = (enum status)polled.status[seat];
	int64_t		 ends_ms = polled.expires_ms[seat], now_ms = loop_clock_ms();
	int64_t		 late_ms = now_ms - EXPIRY_LATE_MS - round_us / 1000;

	if (only_reconcile_us[seat] != 0)
		return (true);
	if (was != HOLD || ends_ms == NEVER)
		return (shown == was);
	if (stepped_back_us != 0 && shown == AVAILABLE)
		return (true);
	if (ends_ms <= polled.as_of_ms || ends_ms <= late_ms)
		return (shown == AVAILABLE);
	if (ends_ms > now_ms + slack_ms())
		return (shown == HOLD);
	return (shown == HOLD || shown == AVAILABLE);
}

void
oracle_shown(int who, bool late, int seat, enum status st, uint32_t *index_r)
{
	struct history	*h = &truth[seat];
	uint32_t	 i;

	for (i = *index_r; i < h->n && h->states[i].at_us <= delivery_us; i++)
		if (h->states[i].status == st) {
			*index_r = i;
			return;
		}
	if (st == AVAILABLE && (ended_by_clock(&polled, seat) || ended_by_clock(&before, seat) || (late && by_clock[seat])))
		return;
	if (only_reconcile_us[seat] != 0)
		return;		/* what memory had of it, and the clock */
	if (st == HOLD && stepped_until_ms != 0)
		return;		/* it was one before the clock stepped */
	broken("order", "browser %d is told that seat number %d is %s; since what it showed (%s, from %.3f s on) it was not so; "
	    "it is %s", who, seat, status_names[st], status_names[h->states[*index_r].status],
	    (double)(h->states[*index_r].at_us - WORLD_BEGIN_US) / 1e6, status_names[h->states[h->n - 1].status]);
}

/* --- once a second ---------------------------------------------------------------------- */

/* Polls come in time while somebody watches, and not when nobody does. */
static void
check_polls(void)
{
	int64_t	well = database_healthy_us(), interval = setup.opts.poll_interval_ms * MS;
	bool	watched = loop_lives && !master_drains() && browsers_open() > 0;

	if (!watched)
		watched_from_us = NEVER;
	else if (watched_from_us == NEVER)
		watched_from_us = world_us;
	if (watched && watched_from_us < world_us - interval - SECOND && well < world_us - interval - SECOND &&
	    stalled_us < world_us - interval - SECOND && master_loop_age_us() > 2 * interval + 2 * SECOND &&
	    queried_us < world_us - interval - 60 * MS)
		broken("polls", "somebody watches, and the database was not asked for %lld ms",
		    (long long)(world_us - queried_us) / 1000);
}

void
oracle_sweep(void)
{
	check_polls();
	note_by_clock();
	browsers_sweep();
	if (polled_us != 0 && loop_lives && !master_drains() && world_us >= stalled_us + SECOND &&
	    master_loop_age_us() > world_us - polled_us)
		browsers_compare("between polls");
}

void
oracle_end(void)
{
	int64_t late = master_counter(BOARD_late_seats);

	if (late != 0 && !late_is_fine)
		broken("late", "%lld seats were found by a reconcile only, in exact mode", (long long)late);
	tally->resumes = master_counter(BOARD_resume_hits);
	tally->passes = master_counter(BOARD_conflations);
}
