/* SPDX-License-Identifier: ISC */
/*
 * clock - time that a test moves by hand: mono.h, and libev's timers and descriptors.
 *
 * Included by one file of a test program, which then links neither mono.c nor
 * libev.  clock_run() fires the timers that are due, in order, each at its time,
 * and before each step whatever descriptor is ready: time goes on only when there is
 * nothing to read or write.  So a minute takes no time, and a busy machine changes
 * nothing, as long as both ends of a connection are in this program.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <ev.h>
#include <poll.h>
#include <stdint.h>

#include "base/mono.h"
#include "unit.h"

#define CLOCK_TIMERS	32
#define CLOCK_FDS	32

static int64_t	 clock_us;
static ev_timer	*clock_timer[CLOCK_TIMERS];
static ev_io	*clock_io[CLOCK_FDS];

int64_t mono_us(void) { return (clock_us); }
int64_t mono_ms(void) { return (clock_us / 1000); }
void ev_now_update(struct ev_loop *ev) { (void)ev; }

void
ev_timer_start(struct ev_loop *ev, ev_timer *w)
{
	size_t i;

	(void)ev;
	if (w->active)
		return;
	w->active = 1;
	w->at += (double)clock_us / 1e6;
	for (i = 0; clock_timer[i] != NULL; i++)
		ck_assert_uint_lt(i, CLOCK_TIMERS - 1);
	clock_timer[i] = w;
}

void
ev_timer_stop(struct ev_loop *ev, ev_timer *w)
{
	size_t i;

	(void)ev;
	for (i = 0; i < CLOCK_TIMERS; i++)
		if (clock_timer[i] == w)
			clock_timer[i] = NULL;
	w->active = 0;
}

void
ev_timer_again(struct ev_loop *ev, ev_timer *w)
{
	ev_timer_stop(ev, w);
	if (w->repeat > 0.) {
		w->at = w->repeat;
		ev_timer_start(ev, w);
	}
}

void
ev_io_start(struct ev_loop *ev, ev_io *w)
{
	size_t i;

	(void)ev;
	if (w->active)
		return;
	w->active = 1;
	for (i = 0; clock_io[i] != NULL; i++)
		ck_assert_uint_lt(i, CLOCK_FDS - 1);
	clock_io[i] = w;
}

void
ev_io_stop(struct ev_loop *ev, ev_io *w)
{
	size_t i;

	(void)ev;
	for (i = 0; i < CLOCK_FDS; i++)
		if (clock_io[i] == w)
			clock_io[i] = NULL;
	w->active = 0;
}

/* One descriptor that is ready, after at most so many real milliseconds.  0: none is. */
static inline int
clock_turn(int patience_ms)
{
	static size_t	last;
	struct pollfd	fds[CLOCK_FDS];
	ev_io		*w;
	size_t		i, k;
	int		events;

	for (i = 0; i < CLOCK_FDS; i++) {
		w = clock_io[i];
		fds[i] = (struct pollfd){ w != NULL ? w->fd : -1, 0, 0 };
		if (w != NULL)
			fds[i].events = (short)((w->events & EV_READ ? POLLIN : 0) | (w->events & EV_WRITE ? POLLOUT : 0));
	}
	if (poll(fds, CLOCK_FDS, patience_ms) <= 0)
		return (0);
	for (k = 0; k < CLOCK_FDS; k++) {
		i = (last + 1 + k) % CLOCK_FDS;		/* each in its turn */
		if (fds[i].revents == 0 || (w = clock_io[i]) == NULL)
			continue;
		events = (fds[i].revents & (POLLIN | POLLHUP | POLLERR) ? EV_READ : 0) |
		    (fds[i].revents & (POLLOUT | POLLERR) ? EV_WRITE : 0);
		if ((events &= w->events) == 0)
			continue;
		last = i;
		w->cb(NULL, w, events);
		return (1);
	}
	return (0);
}

/* Microseconds, rounded up: no timer is early. */
static inline int64_t
clock_due_us(const ev_timer *w)
{
	int64_t us = (int64_t)(w->at * 1e6);

	return ((double)us < w->at * 1e6 - 1e-3 ? us + 1 : us);
}

/* Go on for so long, firing what is due. */
static inline void
clock_run(int64_t us)
{
	int64_t		 end = clock_us + us;
	ev_timer	*first;
	size_t		 i;

	for (;;) {
		while (clock_turn(0))
			;
		first = NULL;
		for (i = 0; i < CLOCK_TIMERS; i++)
			if (clock_timer[i] != NULL && (first == NULL || clock_timer[i]->at < first->at))
				first = clock_timer[i];
		if (first == NULL || clock_due_us(first) > end)
			break;
		if (clock_due_us(first) > clock_us)
			clock_us = clock_due_us(first);
		ev_timer_stop(NULL, first);
		if (first->repeat > 0.) {
			first->at = first->repeat;
			ev_timer_start(NULL, first);
		}
		first->cb(NULL, first, EV_TIMER);
	}
	clock_us = end;
}

#endif
