/*
 * sse - the seats of a group as text/event-stream bytes: init and update.
 *
 * The one place that knows how SPEC 2 writes a seat.  Everything is appended to a
 * struct buf; an `id:` line stands only on the last update of a batch, after its
 * data, so whoever holds an id holds everything up to it.
 * Runs in: loop.  Pure: no descriptor, no clock, no log.
 * Source: WHATWG HTML, 9.2 Server-sent events (9.2.5 parsing, 9.2.6 interpreting).
 */
#ifndef SSE_H
#define SSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "loop/seat.h"
#include "wire/stream_id.h"

/* The whole block: event, data, then the id (SPEC 2). */
void	sse_init(struct buf *b, struct stream_id id, const struct seat_map *seats);

#define SSE_NO_SEAT	0	/* ids begin with 1 */

/* What a viewer has of the seats. */
struct sse_known {
	uint64_t	version;	/* all of them to this version … */
	int64_t		ahead_seat;	/* … and those with this id and higher (SSE_NO_SEAT: none) */
	uint64_t	ahead_version;	/* to this one */
};

/*
 * What changed since then, by ascending id, in parts: of the seats with
 * id from (0: all) or higher, as many updates as begin within max_bytes (SIZE_MAX:
 * all).  *next_r is where the next part begins, or SSE_NO_SEAT when this was the
 * last one: then its last update ends with the id line.
 * Returns the number of updates; 0 writes nothing.
 */
size_t	sse_updates_part(struct buf *b, struct stream_id id, const struct seat_map *seats,
	    const struct sse_known *known, int64_t from, size_t max_bytes, int64_t *next_r);

/* The body of the init event alone: {"status":200,"data":{"seats":[…]}} */
void	sse_snapshot_json(struct buf *b, const struct seat_map *seats);

#endif
