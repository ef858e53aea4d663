/* SPDX-License-Identifier: ISC */
/*
 * frames - what viewers are sent, encoded once and shared by all who need it.
 *
 * Viewers of equal views share a frameset: the frames of that view, and the epoch
 * of its ids.  A frame is made when the first viewer needs it and forgotten with
 * the next version of the seats (events) or the next good poll (beat, stale,
 * fresh); who is still writing one has a reference of its own.
 *
 * An id tells by its epoch which run of a loop and which view it was given to:
 * so it is known to be good for a view that shows no more, and for no other.
 * Framesets that nobody watches are remembered for those who come back, and
 * forgotten, oldest first, when there are many.
 * Runs in: loop.  No I/O, no log.  Every function that returns a chunk gives the
 * caller a reference; NULL is ENOMEM.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/view.h"
#include "wire/stream_id.h"

#define FRAMES_REQUEST_ID	1	/* of all shared frames: what every known web server uses */

struct board_slot;
struct chan_handover;
struct chunk;
struct frames;
struct frameset;
struct opts;
struct poller;

/* epoch is that of the first view, the next one's is one more.  NULL: ENOMEM. */
struct frames	*frames_new(const struct poller *poller, const struct opts *o, struct board_slot *slot, uint32_t epoch);
void		 frames_free(struct frames **fp);

/* One more viewer of this view.  NULL: ENOMEM. */
struct frameset	*frames_watch(struct frames *f, const struct view *v);
void		 frames_unwatch(struct frames *f, struct frameset **fsp);	/* accepts *fsp NULL */

/* Was this id given to a view that shows all that fs does, and is it still good?  Then its holder has version id.version. */
bool		 frames_knows(const struct frames *f, const struct frameset *fs, struct stream_id id);
uint64_t	 frames_layout_version(const struct frames *f, const struct frameset *fs);	/* who is older needs init */

/* A response header for a page of that origin ("": none), and a retry of its own. */
struct chunk	*frames_head(struct frames *f, const char *origin);
/* All that the view shows, and what is news to a viewer (not older than the layout), at the current version; no bytes: nothing is. */
struct chunk	*frames_init(struct frames *f, struct frameset *fs);
struct chunk	*frames_news(struct frames *f, struct frameset *fs, const struct view_known *known);

/*
 * One part of a pass: what is news to a viewer, from that place on, with the
 * id of upto at the end of the last part.  *part_r is NULL when nothing is left;
 * *next_r is where to go on, VIEW_END after the last.  0, or -1: ENOMEM.
 */
int		 frames_part(struct frames *f, struct frameset *fs, const struct view_known *known, uint64_t upto,
		    uint64_t from, struct chunk **part_r, uint64_t *next_r);

enum frames_mark { FRAMES_BEAT, FRAMES_STALE, FRAMES_FRESH, FRAMES_MARKS };
struct chunk	*frames_mark(struct frames *f, enum frames_mark mark);

/*
 * The answer to a request for a snapshot or for changes, for its request id:
 * a head of its own and the shared body (NULL: there is none).  0, or -1: ENOMEM.
 */
int		 frames_answer(struct frames *f, struct frameset *fs, const struct chan_handover *h,
		    struct chunk **head_r, struct chunk **body_r);

/* The part of a chunk around an offset, alone, shared by all who ask for it before frames_published. */
struct chunk	*frames_stuck_part(struct frames *f, struct chunk *p, size_t offset, size_t *start_r,
		    uint64_t *next_r);
void		 frames_published(struct frames *f);	/* all viewers were told of a version: drop what only older ones needed */

#endif
