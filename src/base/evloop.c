/* SPDX-License-Identifier: ISC */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/evloop.h"
#include "base/log.h"

#define RESERVE_BYTES	(64 * 1024)

/* libev can't be refused memory: when there is none for a moment, it gets what was laid by.  It asks rarely, and for little. */
static void	*reserve;

/* The reserve itself is what libev goes on with: who frees it and asks again may find that somebody else has it. */
static void *
from_reserve(void *p, size_t size)
{
	void	*moved = reserve;
	size_t	 held = p == NULL ? 0 : malloc_usable_size(p);

	if (reserve == NULL || size > RESERVE_BYTES)
		return (NULL);
	if (held > 0)
		memcpy(moved, p, held < size ? held : size);
	free(p);
	reserve = NULL;
	return (moved);
}

static void *
allocate(void *p, long size)
{
	void *grown;

	if (size == 0) {
		free(p);
		return (NULL);
	}
	if ((grown = realloc(p, (size_t)size)) == NULL && (grown = from_reserve(p, (size_t)size)) == NULL) {
		free(reserve);		/* more than it is: its room may be beside */
		reserve = NULL;
		grown = realloc(p, (size_t)size);
	}
	if (grown == NULL)
		fatal("event loop");
	if (reserve == NULL)
		reserve = malloc(RESERVE_BYTES);
	return (grown);
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
evloop_watch_signal(struct ev_loop *ev, ev_signal *w, int signum, void (*cb)(struct ev_loop *, ev_signal *, int), void *data)
{
	ev_signal_init(w, cb, signum);
	w->data = data;
	ev_signal_start(ev, w);
}
