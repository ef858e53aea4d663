/* SPDX-License-Identifier: ISC */
/*
 * poller - the poll: what the database says about one group, a block or a whole
 * match, turned into changes of its seats.
 *
 * Asks once per interval for the changes since its cursor, now and then for the
 * whole group too (a reconcile), and earlier when somebody wrote or a hold ends.
 * What it was told is in the seat map; the cursor is the port functions' text
 * and opaque.  Never two queries at once; a slow poll skips ticks.
 * Runs in: loop.  Does not block; I/O only through db.  Logs what goes wrong in
 * a poll once, and once that it is over.
 * Borrows db, slot and opts; owns the seats.
 */
#ifndef POLLER_H
#define POLLER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop/seat.h"
#include "shared/group.h"

struct board_slot;
struct db;
struct poller;
struct opts;

struct poller_callbacks {
	void	(*on_change)(void *arg);	/* the seats have a new version */
	void	(*on_poll)(void *arg);		/* a good poll is in (after on_change) */
	void	(*on_freshness)(void *arg);	/* poller_is_stale has another answer (after on_change, before on_poll) */
};

/* NULL: ENOMEM.  Paused at first. */
struct poller	*poller_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot, struct db *db,
		    struct group_key key, const struct poller_callbacks *cb, void *arg);
void		 poller_free(struct poller **pp);

/* Somebody watches: poll at once and then every interval.  Nothing when it runs already. */
void		 poller_resume(struct poller *p);
/* Nobody watches: ask the database nothing.  The cursor stays good for any time. */
void		 poller_pause(struct poller *p);
/*
 * Somebody wrote, and its commit is visible: a poll that is asked after this call
 * goes out 100 ms after the last one, or now if that is longer ago.  The ticks
 * stay where they are.  Nothing while paused.
 */
void		 poller_hurry(struct poller *p);

const struct seat_map *poller_seats(const struct poller *p);
bool		 poller_has_state(const struct poller *p);	/* a first snapshot is in */
bool		 poller_is_current(const struct poller *p);	/* and it was polled since poller_resume */
bool		 poller_is_stale(const struct poller *p);	/* no good poll for 3 s (or two intervals and 1 s) */
int64_t		 poller_as_of_ms(const struct poller *p);	/* database time of the last good poll; 0: none */
int64_t		 poller_age_ms(const struct poller *p);	/* how long ago that was, by our own clock */

#endif
