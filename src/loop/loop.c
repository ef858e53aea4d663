/* SPDX-License-Identifier: ISC */
/*
 * loop - one group: the poll of a block or of a whole match, and all its viewers.
 *
 * Wires poller, fanout and the channel to the master together and decides when
 * to poll and when to leave; what they do is in their own files.
 *
 * Leaving: a loop without viewers stops polling at once and asks to go after
 * --linger.  The master answers LEAVE only when every ADOPT it ever sent has
 * arrived (LEAVING carries their number), and from then on starts a new loop
 * for the group; so no hand-over meets a loop that has gone.
 */
#include <bsd/stdlib.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/confine.h"
#include "base/evloop.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "base/title.h"
#include "loop/fanout.h"
#include "loop/poller.h"
#include "shared/alive.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "shared/db.h"
#include "shared/inherit.h"

#define SNAPSHOT_WATCH_POLLS	3	/* polls after the last snapshot request: its client is likely to ask again */
#define MASTER_QUEUE		1024	/* messages the master may be behind: all viewers may go at once */
#define TRIM_TURNS		10	/* of alive: how often memory is given back */

struct loop {
	const struct inherit	*in;
	struct ev_loop		*ev;
	struct chan		 master;
	struct db		*db;
	struct poller		*poller;
	struct fanout		*fanout;
	uint64_t		 adopted;
	bool			 draining;
	int			 polls_left;	/* without viewers: until the poller pauses */
	struct chan_gone	 gone;		/* not told yet */
	ev_prepare		 tell_gone;	/* at the end of a turn */
	ev_timer		 linger;
	struct alive		 alive;
	unsigned		 turns;		/* of alive */
	int64_t		 reconciles;	/* when it last was */
	ev_signal		 quit;
};

static void
on_change(void *arg)
{
	struct loop *lp = arg;

	fanout_publish(lp->fanout);
}

static void
on_freshness(void *arg)
{
	struct loop *lp = arg;

	fanout_freshness(lp->fanout);
	fanout_serve_waiting(lp->fanout);
}

static void
on_poll(void *arg)
{
	struct loop *lp = arg;

	fanout_serve_waiting(lp->fanout);
	if (fanout_count(lp->fanout) == 0 && lp->polls_left-- <= 0)
		poller_pause(lp->poller);
}

static void
on_idle(void *arg)
{
	struct loop *lp = arg;

	if (lp->draining) {
		ev_break(lp->ev, EVBREAK_ALL);
		return;
	}
	ev_now_update(lp->ev);
	ev_timer_stop(lp->ev, &lp->linger);
	ev_timer_set(&lp->linger, (double)lp->in->opts->linger_ms / 1000, 0.);
	ev_timer_start(lp->ev, &lp->linger);
	if (lp->polls_left <= 0)
		poller_pause(lp->poller);
}

static int
tell_gone(struct loop *lp)
{
	if (lp->gone.n != 0 && chan_send(&lp->master, CHAN_GONE, &lp->gone, NULL) == -1)
		return (-1);
	lp->gone.n = 0;
	return (0);
}

/* The master counts connections, per client: it hears of many ends in one message. */
static void
on_gone(void *arg, uint64_t number)
{
	struct loop *lp = arg;

	if (lp->gone.n == CHAN_GONE_MAX && tell_gone(lp) == -1) {
		log_warn("viewer: its end is not told to the master");
		return;
	}
	lp->gone.numbers[lp->gone.n++] = number;
}

static void
on_turn_end(struct ev_loop *ev, ev_prepare *w, int revents)
{
	(void)ev;
	(void)revents;
	(void)tell_gone(w->data);	/* not now: with the next turn */
}

static void
on_linger(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct loop		*lp = w->data;
	struct chan_leaving	 leaving = { lp->adopted };

	(void)ev;
	(void)revents;
	if (fanout_count(lp->fanout) == 0 && chan_send(&lp->master, CHAN_LEAVING, &leaving, NULL) == -1)
		log_warn("leaving: not told to the master");
}

/* The master has a duplicate, and lets a worker refuse it politely. */
static void
report_lost(struct loop *lp)
{
	static struct log_seldom lost_ones;
	struct chan_lost lost = { lp->adopted };

	log_warnx_seldom(&lost_ones, "viewer: not adopted: out of descriptors or memory; raise the limit of open files (RLIMIT_NOFILE)");
	if (chan_send(&lp->master, CHAN_LOST, &lost, NULL) == -1)
		log_warn("viewer: lost: not told to the master");
	else
		board_add(lp->in->slot, BOARD_lost, 1);	/* before any other is begun: the master waits for that message */
	if (fanout_count(lp->fanout) == 0)
		on_idle(lp);
}

/* Adopt a connection: from here its descriptor is the fanout's. */
static void
adopt(struct loop *lp, const struct chan_handover *h, int fd)
{
	lp->adopted++;
	ev_timer_stop(lp->ev, &lp->linger);
	if (fd != -1) {
		lp->polls_left = h->kind == CHAN_SNAPSHOT ? SNAPSHOT_WATCH_POLLS : 0;
		if (!lp->draining)
			poller_resume(lp->poller);
	}
	if (fd == -1 || fanout_attach(lp->fanout, h, fd, lp->adopted) == -1) {
		report_lost(lp);
		board_add(lp->in->slot, BOARD_adopted, 1);
	}
}

static void
drain(struct loop *lp, int64_t spread_ms)
{
	lp->draining = true;
	fanout_drain(lp->fanout, spread_ms);
	if (fanout_count(lp->fanout) == 0)
		ev_break(lp->ev, EVBREAK_ALL);
}

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	struct loop *lp = c->arg;

	switch (type) {
	case CHAN_ADOPT:
		adopt(lp, &p->handover, fd);
		break;
	case CHAN_WROTE:
		poller_hurry(lp->poller);
		break;
	case CHAN_GIVE_WAY:
		fanout_give_way(lp->fanout, p->give_way.number);
		break;
	case CHAN_LEAVE:
		ev_break(lp->ev, EVBREAK_ALL);
		break;
	case CHAN_DRAIN:
		drain(lp, p->drain.spread_ms);
		break;
	case CHAN_SUCCEEDED:
		fanout_succeeded(lp->fanout);
		break;
	default:
		break;
	}
}

static void
on_master_gone(struct chan *c, const char *why)
{
	struct loop *lp = c->arg;

	log_warnx("master: gone%s%s: ending", why != NULL ? ": " : "", why != NULL ? why : "");
	drain(lp, 0);
	ev_break(lp->ev, EVBREAK_ALL);
}

/*
 * Frames and query results come and go each second, in sizes up to megabytes,
 * among viewers that stay for hours.  Large ones get mappings of their own, so
 * that the heap does not stay as large as its worst second (mallopt(3)).
 */
static void
tune_malloc(void)
{
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, 32 * 1024);
	mallopt(M_TRIM_THRESHOLD, 128 * 1024);
#endif
}

/* And what is free between what stays goes back to the system (malloc_trim(3)). */
static void
trim_malloc(void)
{
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

static void
on_alive(void *arg)
{
	struct loop	*lp = arg;
	int64_t		 reconciles = board_get(lp->in->slot, BOARD_reconciles);

	/* after a reconcile: its answer was as large as the group */
	if (reconciles != lp->reconciles || ++lp->turns % TRIM_TURNS == 0)
		trim_malloc();
	lp->reconciles = reconciles;
}

static void
on_quit(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct loop *lp = w->data;

	(void)ev;
	(void)revents;
	drain(lp, 0);
	ev_break(lp->ev, EVBREAK_ALL);
}

static uint32_t
new_epoch(void)
{
	uint32_t epoch;

	while ((epoch = arc4random()) == 0)
		;
	return (epoch);
}

int
loop_main(const struct inherit *in)
{
	static const struct poller_callbacks callbacks = { on_change, on_poll, on_freshness };
	struct loop	 loop = { .in = in }, *lp = &loop;
	char		 name[GROUP_NAME_BYTES];

	group_name(name, &in->key);
	log_process("loop %s", name);
	title_set("loop %s", name);
	tune_malloc();
	lp->ev = evloop_new();
	chan_init(&lp->master, lp->ev, in->channel_fd, CHAN_LOOP, CHAN_MASTER, MASTER_QUEUE,
	    on_message, on_master_gone, lp);
	if ((lp->db = db_new(lp->ev, in->opts->database, in->slot)) == NULL ||
	    (lp->poller = poller_new(lp->ev, in->opts, in->slot, lp->db, in->key,
	    &callbacks, lp)) == NULL ||
	    (lp->fanout = fanout_new(lp->ev, in->opts, in->slot, lp->poller, new_epoch(), on_idle, on_gone, lp)) == NULL)
		fatal("start");
	ev_timer_init(&lp->linger, on_linger, 0., 0.);
	ev_prepare_init(&lp->tell_gone, on_turn_end);
	lp->linger.data = lp->tell_gone.data = lp;
	ev_prepare_start(lp->ev, &lp->tell_gone);
	alive_start(&lp->alive, lp->ev, in->slot, on_alive, lp);
	evloop_watch_signal(lp->ev, &lp->quit, SIGTERM, on_quit, lp);
	lp->polls_left = SNAPSHOT_WATCH_POLLS;
	poller_resume(lp->poller);
	on_idle(lp);			/* until the first viewer comes */
	confine(CONFINE_LOOP);
	if (chan_send(&lp->master, CHAN_READY, NULL, NULL) == -1)
		fatal("master");

	ev_run(lp->ev, 0);

	log_debug("leaving");
	fanout_free(&lp->fanout);
	poller_free(&lp->poller);
	db_free(&lp->db);
	chan_fini(&lp->master);
	ev_prepare_stop(lp->ev, &lp->tell_gone);
	ev_timer_stop(lp->ev, &lp->linger);
	alive_stop(&lp->alive, lp->ev);
	ev_signal_stop(lp->ev, &lp->quit);
	ev_loop_destroy(lp->ev);
	return (0);
}
