#include <bsd/stdlib.h>
#include <stdio.h>

#include "board.h"
#include "http.h"
#include "must.h"
#include "refuse.h"
#include "sse.h"

#define BUSY_RETRY_MS		10000
#define BUSY_JITTER_MS		10000
#define RETRY_AFTER_S		2
#define RETRY_AFTER_JITTER_S	4

_Static_assert(BOARD_refused_crashing - BOARD_refused_streams == CHAN_R_CRASHING - CHAN_R_STREAMS,
    "one counter per reason, in the same order");

void
refuse_answer(struct buf *b, struct board_slot *slot, enum chan_reason reason, bool sse, bool head)
{
	char after[64];

	must(reason < CHAN_R__MAX);
	board_add(slot, (enum board_value)(BOARD_refused_streams + (int)reason), 1);
	if (!sse) {
		snprintf(after, sizeof(after), "Retry-After: %u\r\n",
		    RETRY_AFTER_S + arc4random_uniform(RETRY_AFTER_JITTER_S));
		http_error(b, 503, chan_reason_text(reason), after, head);
		return;
	}
	http_stream_header(b);
	if (!head)
		sse_busy(b, BUSY_RETRY_MS + arc4random_uniform(BUSY_JITTER_MS + 1), chan_reason_text(reason));
}
