/* SPDX-License-Identifier: ISC */
/*
 * expiry - ends holds at their moment by the database's clock, which is
 * estimated between polls.
 *
 * A hold that is over in memory may have been renewed since the last poll:
 * AVAILABLE would then be shown for a seat that never was.  So when the earliest
 * one ends, a poll is asked for, and its answer ends what is over.  Without an
 * answer in time, or without a database to ask, the clock does.
 * Runs in: loop, on libev.  Does not block.  Logs nothing.
 * Borrows the seats; is a part of its poller.
 */
#ifndef EXPIRY_H
#define EXPIRY_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seat_map;

struct expiry_callbacks {
	int64_t	(*ask)(void *arg);			/* bring a poll forward: milliseconds until it goes out, or -1: nobody to ask */
	void	(*on_end)(void *arg, size_t n);		/* the clock ended so many: the seats have a new version */
};

struct expiry {
	struct ev_loop			*ev;
	struct seat_map			*seats;
	const struct expiry_callbacks	*cb;
	void				*arg;
	bool				 asked;		/* a poll is to say whether a hold is over */
	int64_t				 as_of_ms;	/* database time … */
	int64_t				 as_of_mono_us;	/* … at this monotonic time */
	int64_t				 ended_at_ms;	/* database time up to which the clock has ended holds */
	int64_t				 ended_mono_ms;	/* and when it did */
	ev_timer			 timer;
};

void	expiry_init(struct expiry *e, struct ev_loop *ev, struct seat_map *seats, const struct expiry_callbacks *cb, void *arg);
void	expiry_fini(struct expiry *e);

/* The database's time in an answer, and when it was asked and answered, monotonic. */
void	expiry_set_clock(struct expiry *e, int64_t as_of_ms, int64_t sent_us, int64_t received_us);
/* The time at which an answer is to be taken in, before the clock is set by it: as_of, or later where the clock has ended holds already. */
int64_t	expiry_take_in_ms(const struct expiry *e, int64_t as_of_ms, int64_t sent_us);
/* After anything that may have changed the seats or the clock: wait for the earliest hold. */
void	expiry_schedule(struct expiry *e);

#endif
