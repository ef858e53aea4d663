/* SPDX-License-Identifier: ISC */
/*
 * stream_id - the id of an event: which run of a loop, and which version of its seats.
 *
 * Whoever holds an id has everything up to it; a loop knows its own ids by their
 * epoch, so that an id of another run is never taken for one of ours.
 * Runs in: worker (parses Last-Event-ID), loop.  Pure: no descriptor, no clock, no log.
 * Source: WHATWG HTML, 9.2.6 (last event ID).
 */
#ifndef STREAM_ID_H
#define STREAM_ID_H

#include <stdint.h>

struct stream_id {
	uint32_t	epoch;		/* which run of a loop; random, never 0 */
	uint64_t	version;	/* of its seats; never 0 */
};

/*
 * Parse "5f3a9c1e-41" (8 lower-case hex digits, '-', decimal without leading
 * zero, both not 0, nothing else).  0, or -1 when it is anything else: then the
 * caller sends init.  Accepts NULL.
 */
int	stream_id_parse(const char *text, struct stream_id *id_r);

/* "5f3a9c1e-41"; out has room for STREAM_ID_BYTES. */
#define STREAM_ID_BYTES	32
void	stream_id_format(char *out, struct stream_id id);

#endif
