/* SPDX-License-Identifier: ISC */
/*
 * evloop - libev as this program uses it: where it can't go on it ends the
 * process with a word, instead of going on half deaf.
 *
 * libev drops a watcher that the kernel does not take (no memory for its epoll
 * set) and tells that watcher alone, by EV_ERROR: a process that does not look
 * never hears of that descriptor again.  Every callback for input or output
 * therefore begins with evloop_dropped, and starts its watcher again a moment later.
 * Runs in: master, worker, loop.  Never blocks.
 */
#ifndef EVLOOP_H
#define EVLOOP_H

#include <ev.h>
#include <stdbool.h>

struct ev_loop	*evloop_new(void);		/* never NULL */

/* cb, with data in w->data, for each signum. */
void		 evloop_watch_signal(struct ev_loop *ev, ev_signal *w, int signum,
		    void (*cb)(struct ev_loop *, ev_signal *, int), void *data);

/* The watcher is stopped: the system had no memory for it. */
static inline bool
evloop_dropped(int revents)
{
	return ((revents & EV_ERROR) != 0);
}

#endif
