/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/must.h"
#include "wire/event.h"
#include "wire/http.h"

#define FIRST_MS	INT64_C(-62135596800000)	/* 0001-01-01T00:00:00.000Z */
#define LAST_MS		INT64_C(253402300799999)	/* 9999-12-31T23:59:59.999Z */

void
event_retry(struct buf *b, unsigned ms)
{
	buf_printf(b, "retry: %u\n\n", ms);
}

/* beat, stale and fresh differ in name and status only; a time needs no escaping. */
static void
put_as_of(struct buf *b, const char *event, int status, int64_t as_of_ms)
{
	char	 time[EVENT_TIME_BYTES];

	event_time_format(time, as_of_ms);
	buf_printf(b, "event: %s\ndata: {\"status\":%d,\"data\":{\"asOf\":\"%s\"}}\n\n",
	    event, status, time);
}

void
event_beat(struct buf *b, int64_t as_of_ms)
{
	put_as_of(b, "beat", 200, as_of_ms);
}

void
event_stale(struct buf *b, int64_t as_of_ms)
{
	put_as_of(b, "stale", 503, as_of_ms);
}

void
event_fresh(struct buf *b, int64_t as_of_ms)
{
	put_as_of(b, "fresh", 200, as_of_ms);
}

void
event_busy(struct buf *b, unsigned retry_ms, const char *message)
{
	event_retry(b, retry_ms);
	buf_puts(b, "event: busy\ndata: ");
	http_error_json(b, 503, message);
	buf_puts(b, "\n\n");
}

void
event_time_format(char *out, int64_t unix_ms)
{
	struct tm	 tm;
	time_t		 seconds;
	char		 rest[16];
	int		 ms;

	if (unix_ms < FIRST_MS)
		unix_ms = FIRST_MS;
	if (unix_ms > LAST_MS)
		unix_ms = LAST_MS;
	seconds = (time_t)(unix_ms / 1000);
	ms = (int)(unix_ms % 1000);
	if (ms < 0) {			/* before 1970: C rounds towards zero */
		ms += 1000;
		seconds--;
	}
	must(gmtime_r(&seconds, &tm) != NULL);
	/* strftime's %Y has no leading zeros; its result is always 15 bytes here. */
	strftime(rest, sizeof(rest), "-%m-%dT%H:%M:%S", &tm);
	snprintf(out, EVENT_TIME_BYTES, "%04u%s.%03uZ", (unsigned)(tm.tm_year + 1900) % 10000, rest,
	    (unsigned)ms % 1000);
}
