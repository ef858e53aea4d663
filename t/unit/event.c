/* SPDX-License-Identifier: ISC */
/* event: the bytes of SPEC 2 that carry no seats, exactly; times. */
#include <string.h>

#include "unit.h"
#include "wire/event.h"

#define NOON	INT64_C(1795348800123)		/* 2026-11-22T12:00:00.123Z */

/* Each puts one kind of event; the row says which bytes that must be. */
static void put_retry(struct buf *b)	{ event_retry(b, 2317); }
static void put_beat(struct buf *b)	{ event_beat(b, NOON); }
static void put_stale(struct buf *b)	{ event_stale(b, NOON); }
static void put_fresh(struct buf *b)	{ event_fresh(b, NOON); }
static void put_busy(struct buf *b)	{ event_busy(b, 12345, "too many streams"); }
static void put_nasty(struct buf *b)	{ event_busy(b, 1, "a\n\ndata: \"/b\"\r"); }

static const struct {
	const char	*says;
	void		(*put)(struct buf *);
	const char	*bytes;
} event_cases[] = {
	{ "retry is a block of its own", put_retry, "retry: 2317\n\n" },
	{ "beat tells the time of the last good poll", put_beat,
	    "event: beat\ndata: {\"status\":200,\"data\":{\"asOf\":\"2026-11-22T12:00:00.123Z\"}}\n\n" },
	{ "stale is a 503", put_stale,
	    "event: stale\ndata: {\"status\":503,\"data\":{\"asOf\":\"2026-11-22T12:00:00.123Z\"}}\n\n" },
	{ "fresh is a 200", put_fresh,
	    "event: fresh\ndata: {\"status\":200,\"data\":{\"asOf\":\"2026-11-22T12:00:00.123Z\"}}\n\n" },
	{ "busy says when to come back, and why", put_busy,
	    "retry: 12345\n\nevent: busy\ndata: {\"status\":503,\"message\":\"too many streams\"}\n\n" },
	{ "no message can end a line, nor a slash get a backslash", put_nasty,
	    "retry: 1\n\nevent: busy\ndata: {\"status\":503,\"message\":\"a\\n\\ndata: \\\"/b\\\"\\r\"}\n\n" },
};

START_TEST(events)
{
	struct buf	 b = BUF_INIT;

	event_cases[_i].put(&b);
	ck_assert(buf_ok(&b));
	unit_same_bytes(event_cases[_i].says, b.data, b.len, event_cases[_i].bytes,
	    strlen(event_cases[_i].bytes));
	buf_fini(&b);
}
END_TEST

static const struct {
	const char	*says;
	int64_t		 ms;
	const char	*text;
} time_cases[] = {
	{ "the epoch", 0, "1970-01-01T00:00:00.000Z" },
	{ "milliseconds have three digits", NOON, "2026-11-22T12:00:00.123Z" },
	{ "before 1970 they still count upwards", -1, "1969-12-31T23:59:59.999Z" },
	{ "whole seconds before 1970", -1000, "1969-12-31T23:59:59.000Z" },
	{ "leap days", INT64_C(1709164800000), "2024-02-29T00:00:00.000Z" },
	{ "the first moment", INT64_C(-62135596800000), "0001-01-01T00:00:00.000Z" },
	{ "the last moment", INT64_C(253402300799999), "9999-12-31T23:59:59.999Z" },
	{ "earlier is clamped", INT64_MIN, "0001-01-01T00:00:00.000Z" },
	{ "later is clamped", INT64_MAX, "9999-12-31T23:59:59.999Z" },
};

START_TEST(times)
{
	char	 text[EVENT_TIME_BYTES];

	event_time_format(text, time_cases[_i].ms);
	ck_assert_msg(strcmp(text, time_cases[_i].text) == 0, "%s: %s", time_cases[_i].says, text);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("event");
	TCase	*tc;

	tc = unit_case(s, "events");
	unit_rows(tc, events, event_cases);
	tc = unit_case(s, "times");
	unit_rows(tc, times, time_cases);
	return (unit_main(s));
}
