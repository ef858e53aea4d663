/* SPDX-License-Identifier: ISC */
#include "base/mono.h"
#include "loop/expiry.h"
#include "loop/seat.h"

#define PAUSE_MS	50	/* between two frames of ended holds: thousands may end in one second */
#define MARGIN_MS	5	/* the estimated clock may be ahead of the next as_of */
#define ANSWER_MS	100	/* so long a poll may take to say that a hold is over; then the clock says it */
#define LOOK_AGAIN_MS	3600000	/* clocks drift */
#define CLOCK_SLACK_MS	2000	/* a step of the database's clock back by more is believed */

static int64_t
database_ms(const struct expiry *e, int64_t at_us)
{
	return (e->as_of_ms + (at_us - e->as_of_mono_us) / 1000);
}

static void
wait_for(struct expiry *e, int64_t ms)
{
	ev_now_update(e->ev);
	ev_timer_stop(e->ev, &e->timer);
	ev_timer_set(&e->timer, (double)ms / 1000, 0.);
	ev_timer_start(e->ev, &e->timer);
}

void
expiry_schedule(struct expiry *e)
{
	int64_t next = seat_next_expiry(e->seats), wait_ms, pause_ms;

	e->asked = false;
	if (next == SEAT_NO_EXPIRY) {
		ev_timer_stop(e->ev, &e->timer);
		return;
	}
	wait_ms = next - database_ms(e, mono_us());
	if (wait_ms > LOOK_AGAIN_MS)
		wait_ms = LOOK_AGAIN_MS;
	pause_ms = e->ended_mono_ms + PAUSE_MS - mono_ms();
	if (wait_ms < pause_ms)
		wait_ms = pause_ms;
	wait_for(e, wait_ms < 0 ? 0 : wait_ms + MARGIN_MS);
}

static void
on_expiry(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct expiry	*e = w->data;
	int64_t		 now = database_ms(e, mono_us()), goes_out_ms;
	size_t		 n;

	(void)ev;
	(void)revents;
	if (seat_next_expiry(e->seats) <= now && !e->asked && (goes_out_ms = e->cb->ask(e->arg)) != -1) {
		e->asked = true;
		wait_for(e, goes_out_ms + ANSWER_MS);
		return;
	}
	if ((n = seat_expire(e->seats, now)) > 0) {
		e->ended_mono_ms = mono_ms();
		e->ended_at_ms = now;
	}
	expiry_schedule(e);
	if (n > 0)
		e->cb->on_end(e->arg, n);
}

/*
 * The answer to a question that went out at sent_us is of a time before that: the database's clock was stepped back.  By
 * less at a time it may have been as well, and then how far holds were ended ahead of it says so.
 */
static bool
is_stepped_back(const struct expiry *e, int64_t as_of_ms, int64_t sent_us)
{
	return (database_ms(e, sent_us) - as_of_ms >= CLOCK_SLACK_MS || e->ended_at_ms - as_of_ms >= CLOCK_SLACK_MS);
}

void
expiry_set_clock(struct expiry *e, int64_t as_of_ms, int64_t sent_us, int64_t received_us)
{
	if (is_stepped_back(e, as_of_ms, sent_us))
		e->ended_at_ms = as_of_ms;	/* the clock from before has no say when this one comes near */
	e->as_of_ms = as_of_ms;
	e->as_of_mono_us = sent_us + (received_us - sent_us) / 2;
}

/*
 * Holds ended by the estimated clock stay ended when the real one turns out to
 * be some milliseconds behind: never an older state after a newer.
 */
int64_t
expiry_take_in_ms(const struct expiry *e, int64_t as_of_ms, int64_t sent_us)
{
	return (e->ended_at_ms > as_of_ms && !is_stepped_back(e, as_of_ms, sent_us) ? e->ended_at_ms : as_of_ms);
}

void
expiry_init(struct expiry *e, struct ev_loop *ev, struct seat_map *seats, const struct expiry_callbacks *cb, void *arg)
{
	*e = (struct expiry){ .ev = ev, .seats = seats, .cb = cb, .arg = arg };
	ev_init(&e->timer, on_expiry);
	e->timer.data = e;
}

void
expiry_fini(struct expiry *e)
{
	ev_timer_stop(e->ev, &e->timer);
}
