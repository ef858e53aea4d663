/* SPDX-License-Identifier: ISC */
/*
 * alive - once a second a process shows on the scoreboard that it goes round its
 * event loop, and how many lines of its log were lost.
 *
 * Who does not for a while is killed (child.c in master).
 * Runs in: worker, loop; the master does the same in its tick.  Never blocks.
 */
#ifndef ALIVE_H
#define ALIVE_H

#include <ev.h>

struct board_slot;

struct alive {
	ev_timer		 timer;
	struct board_slot	*slot;
	void			(*on_turn)(void *arg);	/* may be NULL */
	void			*arg;
};

void	alive_start(struct alive *a, struct ev_loop *ev, struct board_slot *slot, void (*on_turn)(void *arg), void *arg);
void	alive_stop(struct alive *a, struct ev_loop *ev);

#endif
