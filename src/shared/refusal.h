/* SPDX-License-Identifier: ISC */
/*
 * refusal - why a request can't be served for now, and the polite answer to it.
 *
 * A browser's EventSource gives up for good on any status but 200 (WHATWG 9.2.3),
 * so who accepts text/event-stream gets 200, a long jittered retry, `event: busy`
 * and the end; everybody else gets a plain 503 with Retry-After (SPEC 1).
 * One table (refusal_tbl.h) holds reasons, counters and texts together.
 * Runs in: master (names a reason), worker, loop (answer).  No I/O, no log.
 */
#ifndef REFUSAL_H
#define REFUSAL_H

#include <stdbool.h>

#include "wire/http.h"

struct board_slot;
struct buf;

enum refusal_reason {
#define REFUSAL(NAME, name, why, text)	REFUSAL_##NAME,
#include "shared/refusal_tbl.h"
#undef REFUSAL
	REFUSAL__MAX
};

/* What refusal_answer makes at most: into a buf on that much room it needs no memory, so that who has none can still be polite. */
#define REFUSAL_BYTES	(HTTP_CORS_BYTES + 768)

/* The whole answer into b, and counted in slot.  sse: with `event: busy`; head: HEAD was asked; cors: http_cors(). */
void	refusal_answer(struct buf *b, struct board_slot *slot, enum refusal_reason reason, bool sse, bool head,
	    const char *cors);

#endif
