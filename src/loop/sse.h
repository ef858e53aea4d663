/* SPDX-License-Identifier: ISC */
/*
 * sse - the cells of a view as bytes: init, update and count of a stream, and the
 * bodies of snapshots and changes.
 *
 * The one place that knows how SPEC 2 writes a seat or a count.  Everything is
 * appended to a struct buf; an `id:` line stands only on the last cell of a batch,
 * after its data, so whoever holds an id holds everything up to it.
 * Runs in: loop.  Pure: no descriptor, no clock, no log.
 * Source: WHATWG HTML, 9.2 Server-sent events (9.2.5 parsing, 9.2.6 interpreting).
 */
#ifndef SSE_H
#define SSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "loop/view.h"
#include "wire/stream_id.h"

/* All that the view shows: event, data, then the id. */
void	sse_init(struct buf *b, struct stream_id id, const struct view *v, const struct seat_map *seats);

/*
 * What changed since known, in parts: of the cells from a place on (VIEW_BEGIN:
 * all) as many as begin within max_bytes (SIZE_MAX: all).  *next_r is where the
 * next part begins, or VIEW_END when this was the last one: then its last event
 * ends with the id line.
 * Returns the number of events; 0 writes nothing.
 */
size_t	sse_news_part(struct buf *b, struct stream_id id, const struct view *v, const struct seat_map *seats,
	    const struct view_known *known, uint64_t from, size_t max_bytes, uint64_t *next_r);

/* The body of a snapshot: the data of init; of a match the counts alone. */
void	sse_snapshot_json(struct buf *b, const struct view *v, const struct seat_map *seats);

/* The body of SPEC 2b: the seats that changed since version, or, since 0, all of them and "full". */
void	sse_changes_json(struct buf *b, struct stream_id id, int64_t as_of_ms, const struct view *v,
	    const struct seat_map *seats, uint64_t since);

#endif
