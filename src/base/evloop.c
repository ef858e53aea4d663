/* SPDX-License-Identifier: ISC */
#include <stdlib.h>

#include "base/evloop.h"
#include "base/log.h"

static void *
allocate(void *p, long size)
{
	if (size == 0) {
		free(p);
		return (NULL);
	}
	if ((p = realloc(p, (size_t)size)) == NULL)
		fatal("event loop");
	return (p);
}

static void
on_system_error(const char *what)
{
	fatal("event loop: %s", what);
}

struct ev_loop *
evloop_new(void)
{
	struct ev_loop *ev;

	ev_set_allocator(allocate);
	ev_set_syserr_cb(on_system_error);
	if ((ev = ev_loop_new(EVFLAG_AUTO)) == NULL)
		fatalx("no event loop");
	return (ev);
}

void
evloop_check(int revents)
{
	if (revents & EV_ERROR)
		fatal("event loop: a descriptor can't be watched");
}

void
evloop_watch_signal(struct ev_loop *ev, ev_signal *w, int signum, void (*cb)(struct ev_loop *, ev_signal *, int), void *data)
{
	ev_signal_init(w, cb, signum);
	w->data = data;
	ev_signal_start(ev, w);
}
