/* SPDX-License-Identifier: ISC */
/*
 * seat - the seats of a group as memory knows them, by block, each with the
 * version that last changed it; and of each block how many are free, held, sold.
 *
 * The state is the truth, events are its differences: only this module decides
 * that something changed, so the database may tell it the same row ten times.
 * A version counts the batches (polls, expiries) that changed something; what a
 * viewer at version v lacks are the seats and counts whose version is above v.
 * A HOLD whose expiry has come is AVAILABLE (SPEC 2, promise 4): seat_expire.
 * A block's group is a map with one block, a match's one with many: nothing here
 * knows which it is.
 * Runs in: loop.  Pure: no descriptor, no clock (time comes in), no log.
 * Times are Unix milliseconds on the database's clock.
 */
#ifndef SEAT_H
#define SEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum seat_status {
	SEAT_AVAILABLE,
	SEAT_HOLD,
	SEAT_OCCUPIED,
	SEAT_STATUSES
};

#define SEAT_NO_EXPIRY	INT64_MAX

struct seat {
	int64_t		 id;
	int64_t		 expires_ms;	/* HOLD only; SEAT_NO_EXPIRY: never by itself */
	uint64_t	 version;	/* that last changed `status` */
	uint32_t	 block;		/* seat_block_at(this) */
	enum seat_status status;	/* effective: an expired HOLD is AVAILABLE here */
};

/* A block that has seats. */
struct seat_block {
	int64_t		 id;
	uint32_t	 first, end;	/* its seats are seat_at(first) to seat_at(end - 1) */
	uint32_t	 counts[SEAT_STATUSES];	/* of its seats, by effective status */
	uint64_t	 counts_version;	/* that last changed `counts` */
	uint64_t	 seats_version;		/* that last changed a seat */
	uint64_t	 layout_version;	/* that last added or removed seats */
	int64_t		 next_expiry_ms;	/* inside: earliest of its seats */
	uint32_t	 was[SEAT_STATUSES];	/* inside: counts before the batch that … */
	bool		 touched;		/* … has touched it */
};

/* One row as the database tells it. */
struct seat_row {
	int64_t		 block_id;
	int64_t		 id;
	int64_t		 expires_ms;	/* SEAT_NO_EXPIRY when NULL */
	enum seat_status status;
};

struct seat_map;			/* inside: seat.c; seats by ascending block and id */

struct seat_map *seat_map_new(void);	/* NULL: ENOMEM.  Empty, version 0 */
void		 seat_map_free(struct seat_map **mp);

uint64_t	 seat_version(const struct seat_map *m);	/* 0 before the first snapshot */
size_t		 seat_count(const struct seat_map *m);
const struct seat *seat_at(const struct seat_map *m, size_t i);	/* i < seat_count; ascending block and id */
int64_t		 seat_next_expiry(const struct seat_map *m);	/* earliest in memory, or SEAT_NO_EXPIRY */

uint64_t	 seat_blocks_version(const struct seat_map *m);	/* that last made a block come or go */
size_t		 seat_block_count(const struct seat_map *m);
const struct seat_block *seat_block_at(const struct seat_map *m, size_t i);	/* i < seat_block_count; ascending id */
const struct seat_block *seat_block_find(const struct seat_map *m, int64_t block_id);	/* NULL: it has no seats */
size_t		 seat_lower_bound(const struct seat_map *m, const struct seat_block *b, int64_t id);	/* index of its first seat with this id or a higher one; b->end: none */

/*
 * Take in one batch at now_ms.  All changes of a batch share one new version;
 * a batch that changes nothing leaves the version alone.  A row whose hold is
 * over at now_ms counts as AVAILABLE.  The same id twice in a batch: the last
 * one counts.  Holds in memory that are over at now_ms expire in the same batch.
 *
 * SEAT_CHANGES: rows are seats that may have changed; those not in memory, in
 * that block, are ignored (and counted in unknown): a new seat becomes known with
 * the next snapshot.
 * SEAT_SNAPSHOT: rows are the whole group; seats not among them are removed,
 * new ones added, either moves the layout_version of their block to the new
 * version, or seat_blocks_version if the block itself came or went.  The first
 * snapshot always makes version 1, even of an empty block.
 *
 * 0, or -1: ENOMEM, and nothing has changed.
 */
enum seat_batch { SEAT_CHANGES, SEAT_SNAPSHOT };
struct seat_outcome {
	size_t	changed;	/* seats whose effective status is another now (added, removed too) */
	size_t	expired;	/* of these: by the clock alone; rows said nothing or still HOLD */
	size_t	unknown;	/* of SEAT_CHANGES: seats not in memory */
};
int	seat_apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows,
	    int64_t now_ms, struct seat_outcome *out_r);

/* Turn every HOLD with expires_ms <= now_ms AVAILABLE, as one batch.  Returns how many. */
size_t	seat_expire(struct seat_map *m, int64_t now_ms);

/* "AVAILABLE", "HOLD", "OCCUPIED"; parse: 0, or -1 for any other text. */
const char *seat_status_name(enum seat_status s);
int	seat_status_parse(const char *text, size_t len, enum seat_status *status_r);

#endif
