/* SPDX-License-Identifier: ISC */
/*
 * The clock, libev as the loop wing uses it, and the order in which things happen.
 *
 * Nothing takes time: the clock jumps from one event to the next.  A process that
 * is stalled is one whose watchers and messages wait while the rest of the world
 * goes on.  ev_run is where a story is played while a loop lives; between two loops
 * world_play goes on by itself.
 */
#include <err.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bsd/stdlib.h>

#include "base/mono.h"
#include "base/must.h"
#include "sim.h"
#include "sim_parts.h"

#define TIMERS	256
#define IOS	4096
#define SWEEP_US	SECOND

int64_t		 world_us = WORLD_BEGIN_US;
int64_t		 stalled_us;
bool		 loop_lives, world_quiet;
uint64_t	 world_turns;

struct later {
	int64_t		 at_us;
	uint64_t	 order;		/* of two at the same time the older one first */
	later_cb	*cb;
	void		*arg;
	int		 number;
};

static struct later	*laters;	/* a heap */
static size_t		 nlaters, laters_cap;
static uint64_t		 orders;
static ev_timer		*timers[TIMERS];
static size_t		 ntimers;
static ev_io		*ios[IOS];
static size_t		 nios;
static ev_prepare	*prepare;	/* one is what a loop has */
static int64_t		 cached_us;	/* what libev believes the time is */
static bool		 broken_off;	/* ev_break */
static jmp_buf		 crash;
static const struct story *story;
static size_t		 next_action;

/* --- what happens later ------------------------------------------------------ */

static bool
sooner(const struct later *a, const struct later *b)
{
	return (a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order);
}

void
world_at(int64_t at_us, later_cb *cb, void *arg, int number)
{
	size_t i;

	if (nlaters == laters_cap) {
		laters_cap = laters_cap == 0 ? 64 : 2 * laters_cap;
		if ((laters = realloc(laters, laters_cap * sizeof(*laters))) == NULL)
			err(2, "realloc");
	}
	for (i = nlaters++; i > 0; i = (i - 1) / 2) {
		struct later up = { at_us, orders, NULL, NULL, 0 };

		if (!sooner(&up, &laters[(i - 1) / 2]))
			break;
		laters[i] = laters[(i - 1) / 2];
	}
	laters[i] = (struct later){ at_us < world_us ? world_us : at_us, orders++, cb, arg, number };
}

static struct later
take_first(void)
{
	struct later	first = laters[0], last = laters[--nlaters];
	size_t		i = 0, child;

	while ((child = 2 * i + 1) < nlaters) {
		if (child + 1 < nlaters && sooner(&laters[child + 1], &laters[child]))
			child++;
		if (!sooner(&laters[child], &last))
			break;
		laters[i] = laters[child];
		i = child;
	}
	laters[i] = last;
	return (first);
}

int64_t
world_story_us(void)
{
	return (world_us - WORLD_BEGIN_US);
}

/* --- libev ------------------------------------------------------------------- */

int64_t
mono_us(void)
{
	return (world_us);
}

int64_t
mono_ms(void)
{
	return (world_us / 1000);
}

struct ev_loop *
ev_loop_new(unsigned flags)
{
	static char it;

	(void)flags;
	return ((struct ev_loop *)(void *)&it);
}

void
ev_loop_destroy(struct ev_loop *ev)
{
	(void)ev;
}

ev_tstamp
ev_now(struct ev_loop *ev)
{
	(void)ev;
	return ((double)cached_us / 1e6);
}

ev_tstamp
ev_time(void)
{
	return ((double)world_us / 1e6);
}

void
ev_now_update(struct ev_loop *ev)
{
	(void)ev;
	cached_us = world_us;
}

void
ev_timer_start(struct ev_loop *ev, ev_timer *w)
{
	if (w->active)
		return;
	must(ntimers < TIMERS);
	w->at += ev_now(ev);
	timers[ntimers++] = w;
	w->active = 1;
}

void
ev_timer_stop(struct ev_loop *ev, ev_timer *w)
{
	size_t i;

	(void)ev;
	w->pending = 0;
	if (!w->active)
		return;
	w->at -= ev_now(ev);
	w->active = 0;
	for (i = 0; i < ntimers; i++)
		if (timers[i] == w) {
			memmove(&timers[i], &timers[i + 1], (--ntimers - i) * sizeof(timers[0]));
			return;
		}
	must(!"an active timer is known");
}

void
ev_timer_again(struct ev_loop *ev, ev_timer *w)
{
	w->pending = 0;
	if (w->active && w->repeat > 0.)
		w->at = ev_now(ev) + w->repeat;
	else if (w->active)
		ev_timer_stop(ev, w);
	else if (w->repeat > 0.) {
		w->at = w->repeat;
		ev_timer_start(ev, w);
	}
}

ev_tstamp
ev_timer_remaining(struct ev_loop *ev, ev_timer *w)
{
	return (w->at - (w->active ? ev_now(ev) : 0.));
}

void
ev_io_start(struct ev_loop *ev, ev_io *w)
{
	(void)ev;
	if (w->active)
		return;
	must(nios < IOS);
	w->active = 1;
	ios[nios++] = w;
}

void
ev_io_stop(struct ev_loop *ev, ev_io *w)
{
	size_t i;

	(void)ev;
	w->pending = 0;
	if (!w->active)
		return;
	w->active = 0;
	for (i = 0; i < nios; i++)
		if (ios[i] == w) {
			ios[i] = ios[--nios];
			return;
		}
	must(!"an active watcher is known");
}

void
ev_signal_start(struct ev_loop *ev, ev_signal *w)
{
	(void)ev;
	w->active = 1;
}

void
ev_signal_stop(struct ev_loop *ev, ev_signal *w)
{
	(void)ev;
	w->active = 0;
}

void
ev_prepare_start(struct ev_loop *ev, ev_prepare *w)
{
	(void)ev;
	must(prepare == NULL || prepare == w);
	prepare = w;
	w->active = 1;
}

void
ev_prepare_stop(struct ev_loop *ev, ev_prepare *w)
{
	(void)ev;
	w->active = 0;
	prepare = NULL;
}

void
ev_set_allocator(void *(*cb)(void *, long))
{
	(void)cb;
}

void
ev_set_syserr_cb(void (*cb)(const char *))
{
	(void)cb;
}

void
ev_break(struct ev_loop *ev, int how)
{
	(void)ev;
	(void)how;
	broken_off = true;
}

ev_io *
world_io(int fd)
{
	size_t i;

	for (i = 0; i < nios; i++)
		if (ios[i]->fd == fd)
			return (ios[i]);
	return (NULL);
}

/* Call each socket's watcher that has something to say.  true: there was one. */
static bool
turn_sockets(struct ev_loop *ev)
{
	bool	any = false;
	size_t	i;

	for (i = 0; i < nios; i++) {
		ev_io	*w = ios[i];
		int	 events = socket_events(w->fd) & w->events & (EV_READ | EV_WRITE);

		if (events == 0)
			continue;
		any = true;
		w->cb(ev, w, events);
		i = (size_t)-1;		/* the array may be another one now */
		if (broken_off)
			break;
	}
	return (any);
}

/* epoll_wait(2) counts in milliseconds: a timer is never early and up to one late. */
static int64_t
wakes_us(const ev_timer *w)
{
	int64_t at = (int64_t)(w->at * 1e6 + 0.5);

	return (at % 1000 == 0 ? at : at + 1000 - at % 1000);
}

static ev_timer *
first_timer(void)
{
	ev_timer	*first = NULL;
	size_t		 i;

	for (i = 0; i < ntimers; i++)
		if (first == NULL || timers[i]->at < first->at)
			first = timers[i];
	return (first);
}

static bool
turn_timer(struct ev_loop *ev)
{
	ev_timer *w = first_timer();

	if (w == NULL || wakes_us(w) > world_us)
		return (false);
	if (w->repeat > 0.) {
		w->at += w->repeat;
		if (w->at < ev_now(ev))
			w->at = ev_now(ev);
	} else
		ev_timer_stop(ev, w);
	w->cb(ev, w, EV_TIMER);
	return (true);
}

void
world_forget_watchers(void)
{
	ntimers = nios = 0;
	prepare = NULL;
}

/* --- playing ------------------------------------------------------------------ */

static void
on_sweep(void *arg, int number)
{
	(void)arg;
	(void)number;
	oracle_sweep();
	world_at(world_us + SWEEP_US, on_sweep, NULL, 0);
}

static void
on_end(void *arg, int number)
{
	(void)arg;
	(void)number;
	browser_check_all();
	oracle_end();
	fflush(NULL);
	_exit(0);
}

static void
on_quiet(void *arg, int number)
{
	(void)arg;
	(void)number;
	say("the faults are over");
	world_quiet = true;
	database_heal();
	browser_heal();
	world_at(world_us + 2 * setup.opts.reconcile_interval_ms * MS + 45 * SECOND, on_end, NULL, 0);
}

static int64_t
action_us(void)
{
	return (next_action < story->count ? WORLD_BEGIN_US + story->actions[next_action].at_us : NEVER);
}

/* The next thing that happens outside of the loop, if it is not after until_us.  false: there is none. */
static bool
turn_world(int64_t until_us)
{
	int64_t at = action_us();

	if (nlaters > 0 && laters[0].at_us <= at) {
		struct later l;

		if (laters[0].at_us > until_us)
			return (false);
		l = take_first();
		world_us = l.at_us > world_us ? l.at_us : world_us;
		l.cb(l.arg, l.number);
	} else {
		const struct action *a;

		if (at > until_us || at == NEVER)
			return (false);
		a = &story->actions[next_action++];
		world_us = at > world_us ? at : world_us;
		if (verbose) {
			char words[160];

			story_say(a, words, sizeof(words));
			say("%s", words);
		}
		tally->done[a->kind]++;
		story_act(a);
	}
	return (true);
}

int
ev_run(struct ev_loop *ev, int flags)
{
	ev_timer	*w;
	int64_t		 wake;

	(void)flags;
	broken_off = false;
	while (!broken_off) {
		if (world_us >= stalled_us) {
			cached_us = world_us;
			if (inbox_turn() || turn_sockets(ev))
				continue;
			world_turns++;
			if (turn_timer(ev))
				continue;
			if (prepare != NULL)
				prepare->cb(ev, prepare, EV_PREPARE);
		}
		wake = (w = first_timer()) != NULL ? wakes_us(w) : NEVER;
		if (stalled_us > world_us && wake < stalled_us)
			wake = stalled_us;
		if (!turn_world(wake)) {
			must(wake != NEVER);	/* a sweep is always to come */
			world_us = wake > world_us ? wake : world_us;
		}
	}
	return (0);
}

void
world_stall(int64_t us)
{
	if (loop_lives && world_us + us > stalled_us)
		stalled_us = world_us + us;
}

void
world_crash(void)
{
	if (loop_lives)
		longjmp(crash, 1);
}

void
world_play(const struct story *s)
{
	story = s;
	database_start();
	oracle_start();
	browser_start();
	world_at(WORLD_BEGIN_US + SWEEP_US, on_sweep, NULL, 0);
	world_at(WORLD_BEGIN_US + setup.length_us, on_quiet, NULL, 0);
	for (;;) {
		if (!master_wants_loop()) {
			must(turn_world(NEVER - 1));
			continue;
		}
		loop_lives = true;
		stalled_us = 0;
		if (setjmp(crash) == 0)
			master_run_loop();
		loop_lives = false;
		world_forget_watchers();
		master_loop_died();
	}
}

/* --- chance --------------------------------------------------------------------- */

static uint64_t
mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return (x ^ (x >> 31));
}

uint64_t
dice_roll(enum dice d, int who)
{
	static uint64_t asked[D__MAX][64];

	return (mix(mix(setup.seed * 64 + (uint64_t)d) + mix((uint64_t)who * 4096 + ++asked[d][who & 63])));
}

int64_t
dice_between(enum dice d, int who, int64_t low, int64_t high)
{
	return (low + (int64_t)(dice_roll(d, who) % (uint64_t)(high - low + 1)));
}

bool
dice_one_in(enum dice d, int who, int n)
{
	return (dice_roll(d, who) % (uint64_t)n == 0);
}

/* The program's own chance, from the seed as well. */
uint32_t
arc4random(void)
{
	return ((uint32_t)dice_roll(D_PRODUCT, 0));
}

uint32_t
arc4random_uniform(uint32_t bound)
{
	return (bound < 2 ? 0 : (uint32_t)(dice_roll(D_PRODUCT, 1) % bound));
}
