/* SPDX-License-Identifier: ISC */
/*
 * event - the events of a stream that carry no seats: retry, busy, beat, stale,
 * fresh; and times as JSON wants them.
 *
 * Every payload is one line of JSON, hence one data field.
 * Runs in: worker (busy, times), loop.  Pure: no descriptor, no clock, no log.
 * Source: WHATWG HTML, 9.2 Server-sent events (9.2.5 parsing, 9.2.6 interpreting).
 */
#ifndef EVENT_H
#define EVENT_H

#include <stdint.h>

#include "base/buf.h"

void	event_retry(struct buf *b, unsigned ms);

/* as_of_ms is Unix milliseconds of the database's clock. */
void	event_beat(struct buf *b, int64_t as_of_ms);
void	event_stale(struct buf *b, int64_t as_of_ms);
void	event_fresh(struct buf *b, int64_t as_of_ms);

/* The polite refusal of SPEC 1: retry: retry_ms, event: busy, the 503 envelope. */
void	event_busy(struct buf *b, unsigned retry_ms, const char *message);

/* "2026-11-22T12:00:00.123Z"; out has room for EVENT_TIME_BYTES.  Years 0001-9999; else clamps. */
#define EVENT_TIME_BYTES	32
void	event_time_format(char *out, int64_t unix_ms);

#endif
