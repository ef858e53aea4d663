/*
 * feed - the poll: what the database says about one block, turned into changes
 * of its seats.
 *
 * Asks once per interval for the changes since its cursor, now and then for the
 * whole block too (a reconcile), and ends holds at their moment.  What it was
 * told is in the seat map; the cursor is the port functions' text and opaque.
 * Never two queries at once; a slow poll skips ticks.
 * Runs in: loop.  Does not block; I/O only through db.  Logs what goes wrong in
 * a poll once, and once that it is over.
 * Borrows db, slot and opts; owns the seats.
 */
#ifndef FEED_H
#define FEED_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "seat.h"

struct board_slot;
struct db;
struct feed;
struct opts;

struct feed_callbacks {
	void	(*on_change)(void *arg);	/* the seats have a new version */
	void	(*on_poll)(void *arg);		/* a good poll is in (after on_change) */
	void	(*on_freshness)(void *arg);	/* feed_is_stale has another answer (after on_change, before on_poll) */
};

/* NULL: ENOMEM.  Paused at first. */
struct feed	*feed_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot, struct db *db,
		    int64_t match_id, int64_t block_id, const struct feed_callbacks *cb, void *arg);
void		 feed_free(struct feed **fp);

/* Somebody watches: poll at once and then every interval.  Nothing when it runs already. */
void		 feed_resume(struct feed *f);
/* Nobody watches: ask the database nothing.  The cursor stays good for any time. */
void		 feed_pause(struct feed *f);

const struct seat_map *feed_seats(const struct feed *f);
bool		 feed_has_state(const struct feed *f);	/* a first snapshot is in */
bool		 feed_is_current(const struct feed *f);	/* and it was polled since feed_resume */
bool		 feed_is_stale(const struct feed *f);	/* no good poll for 3 s (or two intervals and 1 s) */
int64_t		 feed_as_of_ms(const struct feed *f);	/* database time of the last good poll; 0: none */

#endif
