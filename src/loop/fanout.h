/* SPDX-License-Identifier: ISC */
/*
 * fanout - the viewers of one group: attach, publish, beat, stall, drain.
 *
 * A viewer is a connection and the version of the seats that it has completely.
 * Each frame is encoded once for all viewers of a view and sent to everybody who
 * is caught up, one send(2) each.  What a viewer can't take waits as (chunk,
 * offset); when it has drained it gets one frame with all that changed since its
 * version.  So a slow viewer costs a reference, never a queue, and one who has
 * everything costs nothing: who was heard of last is a list, looked at from its
 * old end.
 * Runs in: loop.  Never blocks (MSG_DONTWAIT).  Logs single viewers at debug.
 * Owns every descriptor given to fanout_attach; borrows poller, opts and slot.
 */
#ifndef FANOUT_H
#define FANOUT_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/chan.h"

struct board_slot;
struct fanout;
struct poller;
struct opts;

/* Called when the last viewer went. */
typedef void fanout_idle_cb(void *arg);

/* Called when the connection of that hand-over has ended. */
typedef void fanout_gone_cb(void *arg, uint64_t number);

/* epoch names this run of the loop in ids, and its first view (frames.h).  NULL: ENOMEM. */
struct fanout	*fanout_new(struct ev_loop *ev, const struct opts *o, struct board_slot *slot,
		    const struct poller *poller, uint32_t epoch, fanout_idle_cb *on_idle, fanout_gone_cb *on_gone,
		    void *arg);
void		 fanout_free(struct fanout **fp);	/* closes what is left, without ceremony */

/*
 * Adopt the connection of a handed-over request: fd is the fanout's from here,
 * whatever happens.  It is served as soon as the poller is current (or stale, from
 * memory), and refused politely when that takes longer than 5 s since accepted_ms.
 * number counts hand-overs, and answers are begun in its order: the last that has
 * begun is on the board before its first byte goes out, so that the master can
 * save all the others.
 * Counts it as adopted.  0, or -1: ENOMEM, not counted, and fd is closed without a byte.
 */
int		 fanout_attach(struct fanout *f, const struct chan_handover *h, int fd, uint64_t number);

/* End the stream of this number, if it is there: another client is in need of its place. */
void		 fanout_give_way(struct fanout *f, uint64_t number);

size_t		 fanout_count(const struct fanout *f);	/* viewers and waiting snapshot requests */
void		 fanout_publish(struct fanout *f);	/* the seats have a new version */
void		 fanout_freshness(struct fanout *f);	/* poller_is_stale changed */
void		 fanout_serve_waiting(struct fanout *f);	/* after a poll, or when the poller went stale */

/* End all streams, evenly over spread_ms (0: now).  New ones are refused as draining. */
void		 fanout_drain(struct fanout *f, int64_t spread_ms);
void		 fanout_succeeded(struct fanout *f);	/* who ends from now on may come back at once */

#endif
