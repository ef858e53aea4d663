/*
 * sse - seat events as text/event-stream bytes, and ids back into versions.
 *
 * The one place that knows the wire format of SPEC 2: retry, init, update, beat,
 * stale, fresh, busy.  Everything is appended to a struct buf; an `id:` line
 * stands only on the last update of a batch, so whoever holds an id holds
 * everything up to it.  JSON is made by json-c, without white space.
 * Runs in: loop, worker (busy, ids).  Pure: no descriptor, no clock, no log.
 * Source: WHATWG HTML, 9.2 Server-sent events (9.2.5 parsing, 9.2.6 interpreting).
 */
#ifndef SSE_H
#define SSE_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "seat.h"

struct sse_id {
	uint32_t	epoch;		/* which run of a loop; random, never 0 */
	uint64_t	version;	/* of its seats; never 0 */
};

/*
 * Parse "5f3a9c1e-41" (8 lower-case hex digits, '-', decimal without leading
 * zero, both not 0, nothing else).  0, or -1 when it is anything else: then the
 * caller sends init.  Accepts NULL.
 */
int	sse_id_parse(const char *text, struct sse_id *id_r);

/* "5f3a9c1e-41"; out has room for SSE_ID_BYTES. */
#define SSE_ID_BYTES	32
void	sse_id_format(char *out, struct sse_id id);

void	sse_retry(struct buf *b, unsigned ms);

/* The whole block: id first, then event and data (SPEC 2). */
void	sse_init(struct buf *b, struct sse_id id, const struct seat_map *seats);

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
 * last one: then the id line stands on its last update.
 * Returns the number of updates; 0 writes nothing.
 */
size_t	sse_updates_part(struct buf *b, struct sse_id id, const struct seat_map *seats,
	    const struct sse_known *known, int64_t from, size_t max_bytes, int64_t *next_r);

/* beat, stale, fresh: as_of_ms is Unix milliseconds of the database's clock. */
void	sse_beat(struct buf *b, int64_t as_of_ms);
void	sse_stale(struct buf *b, int64_t as_of_ms);
void	sse_fresh(struct buf *b, int64_t as_of_ms);

/* The polite refusal of SPEC 1: retry: retry_ms, event: busy, the 503 envelope. */
void	sse_busy(struct buf *b, unsigned retry_ms, const char *message);

/* The body of the init event alone: {"status":200,"data":{"seats":[…]}} */
void	sse_snapshot_json(struct buf *b, const struct seat_map *seats);

/* "2026-11-22T12:00:00.123Z"; out has room for SSE_TIME_BYTES.  Years 0001-9999; else clamps. */
#define SSE_TIME_BYTES	32
void	sse_time_format(char *out, int64_t unix_ms);

#endif
