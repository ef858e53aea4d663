/*
 * payload - immutable shared bytes, already framed as FastCGI STDOUT records.
 *
 * A frame is encoded once and written to ten thousand viewers: each that can't
 * take it at once keeps a reference and an offset, never a copy.
 * Runs in: loop.  Single-threaded reference counts; no I/O, no log.
 */
#ifndef PAYLOAD_H
#define PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

struct payload {
	unsigned	refs;
	unsigned	events;		/* how many events are in it, for the counters */
	size_t		len;
	unsigned char	bytes[];
};

/* Frame content for request_id; the caller holds the one reference.  NULL: ENOMEM.  len 0 is allowed: no bytes. */
struct payload	*payload_new(uint16_t request_id, const void *content, size_t len);
/* The same records for another request id: a new payload.  NULL: ENOMEM. */
struct payload	*payload_readdressed(const struct payload *p, uint16_t request_id);
/* content (may be empty) followed by the polite end of the request.  NULL: ENOMEM. */
struct payload	*payload_new_last(uint16_t request_id, const void *content, size_t len);
struct payload	*payload_ref(struct payload *p);	/* one more reference: returns p */
void		 payload_unref(struct payload **pp);	/* drops one, sets *pp NULL; accepts *pp NULL */

#endif
