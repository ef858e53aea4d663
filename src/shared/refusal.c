/* SPDX-License-Identifier: ISC */
#include <bsd/stdlib.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/must.h"
#include "shared/board.h"
#include "shared/refusal.h"
#include "wire/event.h"
#include "wire/http.h"

#define BUSY_RETRY_MS		10000
#define BUSY_JITTER_MS		10000
#define RETRY_AFTER_S		2
#define RETRY_AFTER_JITTER_S	4

static const struct {
	enum board_value	 counter;
	const char		*text;
} reasons[REFUSAL__MAX] = {
#define REFUSAL(NAME, name, why, text)	{ BOARD_refused_##name, text },
#include "shared/refusal_tbl.h"
#undef REFUSAL
};

void
refusal_answer(struct buf *b, struct board_slot *slot, enum refusal_reason reason, bool sse, bool head, const char *cors)
{
	char more[HTTP_CORS_BYTES + 64];

	must(reason < REFUSAL__MAX);
	board_add(slot, reasons[reason].counter, 1);
	if (!sse) {
		snprintf(more, sizeof(more), "Retry-After: %u\r\n%s",
		    RETRY_AFTER_S + arc4random_uniform(RETRY_AFTER_JITTER_S), cors);
		http_error(b, 503, reasons[reason].text, more, head);
		return;
	}
	http_stream_header(b, cors);
	if (!head)
		event_busy(b, BUSY_RETRY_MS + arc4random_uniform(BUSY_JITTER_MS + 1), reasons[reason].text);
}
