/* SPDX-License-Identifier: ISC */
/*
 * service - what a worker lends to its requests: everything that an action may use.
 *
 * One per worker, filled at its start; actions get it with the request and know
 * nothing else of the worker.
 * Runs in: worker.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include <ev.h>
#include <stdbool.h>

struct answers;
struct board;
struct board_slot;
struct chan;
struct db;
struct exists;
struct opts;
struct request;
struct writes;

struct service {
	const struct opts	*opts;
	const struct board	*board;
	struct board_slot	*slot;
	struct ev_loop		*ev;
	struct chan		*master;
	struct answers		*answers;
	struct db		*reads;		/* existence, the stadium, readiness */
	struct exists		*exists;
	struct writes		*writes;
	struct request		*requests;	/* all of them */
	int			 replay_fd;	/* memory from which libfcgi reads; -1: not made yet */
	size_t			 replay_len;	/* of what is in it */
	bool			 draining;	/* streams are refused */
	bool			 overloaded;	/* the last hand-over found no room; logged */
};

#endif
