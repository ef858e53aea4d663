/*
 * frames - what viewers are sent, encoded once and shared by all who need it.
 *
 * A frame is made when the first viewer needs it and forgotten with the next
 * version of the seats (events) or the next good poll (beat, stale, fresh); who
 * is still writing one has a reference of its own.
 * Runs in: loop.  No I/O, no log.  "Borrowed" chunks are the frames' own: take
 * a reference to keep one.  Every function that returns a chunk: NULL is ENOMEM.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAMES_REQUEST_ID	1	/* of all shared frames: what every known web server uses */

struct board_slot;
struct chan_handover;
struct poller;
struct frames;
struct sse_known;
struct chunk;

struct frames	*frames_new(const struct poller *poller, struct board_slot *slot, uint32_t epoch);	/* NULL: ENOMEM */
void		 frames_free(struct frames **fp);

/* A response header and a retry of its own: the caller's. */
struct chunk	*frames_head(struct frames *f);
/* The whole block, and what is news to a viewer (whose version is not before the layout's), at the current version: borrowed. */
struct chunk	*frames_init(struct frames *f);
struct chunk	*frames_news(struct frames *f, const struct sse_known *known);

/*
 * One part of a pass: what is news to a viewer, from that seat on, with the
 * id of upto at the end of the last part.  *part_r is borrowed, NULL when
 * nothing is left; *next_r is where to go on, SSE_NO_SEAT after the last.
 * 0, or -1: ENOMEM.
 */
int		 frames_part(struct frames *f, const struct sse_known *known, uint64_t upto, int64_t from,
		    struct chunk **part_r, int64_t *next_r);

enum frames_mark { FRAMES_BEAT, FRAMES_STALE, FRAMES_FRESH, FRAMES_MARKS };
struct chunk	*frames_mark(struct frames *f, enum frames_mark mark);	/* borrowed */

/* The answer to a snapshot request, for its request id: the caller's. */
struct chunk	*frames_snapshot(struct frames *f, const struct chan_handover *h);

/*
 * The part of a chunk around an offset, alone, shared by all who ask for it
 * before frames_forget_stuck: the caller gets a reference.
 */
struct chunk	*frames_stuck_part(struct frames *f, struct chunk *p, size_t offset, size_t *start_r,
		    int64_t *next_r);
void		 frames_forget_stuck(struct frames *f);

#endif
