/*
 * refuse - the polite answer to a request that can't be served for now.
 *
 * A browser's EventSource gives up for good on any status but 200 (WHATWG 9.2.3),
 * so who accepts text/event-stream gets 200, a long jittered retry, `event: busy`
 * and the end; everybody else gets a plain 503 with Retry-After (SPEC 1).
 * Runs in: worker, loop.  No I/O, no log; counts the refusal in slot.
 */
#ifndef REFUSE_H
#define REFUSE_H

#include <stdbool.h>

#include "buf.h"
#include "chan.h"

struct board_slot;

void	refuse_answer(struct buf *b, struct board_slot *slot, enum chan_reason reason, bool sse, bool head);

#endif
