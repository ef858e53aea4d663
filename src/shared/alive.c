/* SPDX-License-Identifier: ISC */
#include "base/log.h"
#include "base/mono.h"
#include "shared/alive.h"
#include "shared/board.h"

#define TURN_S	1.0

static void
on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct alive *a = w->data;

	(void)ev;
	(void)revents;
	board_set(a->slot, BOARD_alive_mono, mono_ms());
	board_set(a->slot, BOARD_log_lines_lost, log_lost());
	if (a->on_turn != NULL)
		a->on_turn(a->arg);
}

void
alive_start(struct alive *a, struct ev_loop *ev, struct board_slot *slot, void (*on_turn)(void *arg), void *arg)
{
	a->slot = slot;
	a->on_turn = on_turn;
	a->arg = arg;
	ev_timer_init(&a->timer, on_timer, 0., TURN_S);
	a->timer.data = a;
	ev_timer_start(ev, &a->timer);
}

void
alive_stop(struct alive *a, struct ev_loop *ev)
{
	ev_timer_stop(ev, &a->timer);
}
