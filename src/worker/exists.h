/* SPDX-License-Identifier: ISC */
/*
 * exists - does this match exist, and do these blocks?
 *
 * Asked before a group that nobody watches gets a loop, so that made-up ids cost
 * no process.  When a sale opens everybody asks the same at once, before the loop
 * is live: all who wait for one answer share one query, and who comes in the two
 * seconds after it need not ask.  That something does not exist is not remembered.
 * Runs in: worker.  Never blocks.  Logs what the operator must mend.
 */
#ifndef EXISTS_H
#define EXISTS_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/group.h"

struct board;
struct board_slot;
struct db;
struct exists;
struct lookup;

enum exists_answer {
	EXISTS_YES,
	EXISTS_NO,
	EXISTS_UNKNOWN		/* the database did not say */
};

/* Called once; the asker is the caller's again. */
typedef void exists_done_cb(void *arg, enum exists_answer answer);

struct exists_asker {
	exists_done_cb		*done;
	void			*arg;
	/* ours */
	struct exists_asker	*prev, *next;
	struct lookup		*lookup;	/* NULL: is not asking */
	ev_timer		 patience;
};

struct exists	*exists_new(struct ev_loop *ev, struct db *db, const struct board *board, struct board_slot *slot);	/* NULL: ENOMEM; all stay the caller's */
void		 exists_free(struct exists **ep);	/* nobody asks any more */

/* Has the database just said so? */
bool		 exists_known(const struct exists *e, int64_t match_id, const struct view *view);
/* done is called later, within timeout_ms.  0; -1: ENOMEM, done is not called. */
int		 exists_ask(struct exists *e, int64_t match_id, const struct view *view, int64_t timeout_ms,
		    struct exists_asker *asker);
void		 exists_forget(struct exists_asker *asker);	/* not asking is fine */

#endif
