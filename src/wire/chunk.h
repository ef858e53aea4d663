/* SPDX-License-Identifier: ISC */
/*
 * chunk - immutable shared bytes, already framed as FastCGI STDOUT records.
 *
 * A frame is encoded once and written to ten thousand viewers: each that can't
 * take it at once keeps a reference and an offset, never a copy.
 * Runs in: loop.  Single-threaded reference counts; no I/O, no log.
 */
#ifndef CHUNK_H
#define CHUNK_H

#include <stddef.h>
#include <stdint.h>

struct buf;

/* A piece of a chunk that ends between two events and between two records. */
struct chunk_part {
	size_t		end;		/* offset in bytes */
	uint64_t	next;		/* where the rest begins: the caller's number */
};

struct chunk {
	unsigned	refs;
	unsigned	events;		/* how many events are in it, for the counters */
	unsigned	nparts;		/* 0: must be sent whole */
	struct chunk_part *parts;
	size_t		len;
	unsigned char	bytes[];
};

/* Frame content for request_id; the caller holds the one reference.  NULL: ENOMEM.  len 0 is allowed: no bytes. */
struct chunk	*chunk_new(uint16_t request_id, const void *content, size_t len);
/*
 * Append more content as records of its own, and note that a part ends there.
 * Takes the reference and returns the longer chunk; NULL: ENOMEM, and the old one is dropped.
 */
struct chunk	*chunk_grow(struct chunk *p, uint16_t request_id, const void *content, size_t len, uint64_t next);
/* The part around offset, alone; *start_r is where it began, *next_r its next.  NULL: ENOMEM. */
struct chunk	*chunk_part_at(const struct chunk *p, size_t offset, size_t *start_r, uint64_t *next_r);
/* The same records for another request id: a new chunk.  NULL: ENOMEM. */
struct chunk	*chunk_readdressed(const struct chunk *p, uint16_t request_id);
/* What is in b, framed; the buf stays the caller's.  NULL: ENOMEM, here or before in b. */
struct chunk	*chunk_from(uint16_t request_id, const struct buf *b);
struct chunk	*chunk_last_from(uint16_t request_id, const struct buf *b);	/* see chunk_new_last */
/* content (may be empty) followed by the polite end of the request.  NULL: ENOMEM. */
struct chunk	*chunk_new_last(uint16_t request_id, const void *content, size_t len);
struct chunk	*chunk_ref(struct chunk *p);	/* one more reference: returns p */
void		 chunk_unref(struct chunk **pp);	/* drops one, sets *pp NULL; accepts *pp NULL */

#endif
