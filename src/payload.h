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

struct buf;

/* A piece of a payload that ends between two events and between two records. */
struct payload_part {
	size_t		end;		/* offset in bytes */
	int64_t		next_seat;	/* what the rest begins with */
};

struct payload {
	unsigned	refs;
	unsigned	events;		/* how many events are in it, for the counters */
	unsigned	nparts;		/* 0: must be sent whole */
	struct payload_part *parts;
	size_t		len;
	unsigned char	bytes[];
};

/* Frame content for request_id; the caller holds the one reference.  NULL: ENOMEM.  len 0 is allowed: no bytes. */
struct payload	*payload_new(uint16_t request_id, const void *content, size_t len);
/*
 * Append more content as records of its own, and note that a part ends there.
 * Takes the reference and returns the longer payload; NULL: ENOMEM, and the old one is dropped.
 */
struct payload	*payload_grow(struct payload *p, uint16_t request_id, const void *content, size_t len, int64_t next_seat);
/* The part around offset, alone; *start_r is where it began, *next_r its next_seat.  NULL: ENOMEM. */
struct payload	*payload_part_at(const struct payload *p, size_t offset, size_t *start_r, int64_t *next_r);
/* The same records for another request id: a new payload.  NULL: ENOMEM. */
struct payload	*payload_readdressed(const struct payload *p, uint16_t request_id);
/* What is in b, framed; the buf stays the caller's.  NULL: ENOMEM, here or before in b. */
struct payload	*payload_from(uint16_t request_id, const struct buf *b);
struct payload	*payload_last_from(uint16_t request_id, const struct buf *b);	/* see payload_new_last */
/* content (may be empty) followed by the polite end of the request.  NULL: ENOMEM. */
struct payload	*payload_new_last(uint16_t request_id, const void *content, size_t len);
struct payload	*payload_ref(struct payload *p);	/* one more reference: returns p */
void		 payload_unref(struct payload **pp);	/* drops one, sets *pp NULL; accepts *pp NULL */

#endif
