/*
 * seat - the seats of one block as memory knows them, each with the version
 * that last changed it.
 *
 * The state is the truth, events are its differences: only this module decides
 * that something changed, so the database may tell it the same row ten times.
 * A version counts the batches (polls, expiries) that changed something; what a
 * viewer at version v lacks are the seats whose version is above v.
 * A HOLD whose expiry has come is AVAILABLE (SPEC 2, promise 4): seat_expire.
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
	SEAT_OCCUPIED
};

#define SEAT_NO_EXPIRY	INT64_MAX

struct seat {
	int64_t		 id;
	int64_t		 expires_ms;	/* HOLD only; SEAT_NO_EXPIRY: never by itself */
	uint64_t	 version;	/* that last changed `status` */
	enum seat_status status;	/* effective: an expired HOLD is AVAILABLE here */
};

/* One row as the database tells it. */
struct seat_row {
	int64_t		 id;
	int64_t		 expires_ms;	/* SEAT_NO_EXPIRY when NULL */
	enum seat_status status;
};

struct seat_map;			/* inside: seat.c; seats by ascending id */

struct seat_map *seat_map_new(void);	/* NULL: ENOMEM.  Empty, version 0 */
void		 seat_map_free(struct seat_map **mp);

uint64_t	 seat_version(const struct seat_map *m);	/* 0 before the first snapshot */
uint64_t	 seat_layout_version(const struct seat_map *m);	/* that last added or removed seats: older viewers need init */
size_t		 seat_count(const struct seat_map *m);
const struct seat *seat_at(const struct seat_map *m, size_t i);	/* i < seat_count; ascending id */
size_t		 seat_lower_bound(const struct seat_map *m, int64_t id);	/* index of the first seat with this id or a higher one */
int64_t		 seat_next_expiry(const struct seat_map *m);	/* earliest in memory, or SEAT_NO_EXPIRY */

/*
 * Take in one batch at now_ms.  All changes of a batch share one new version;
 * a batch that changes nothing leaves the version alone.  A row whose hold is
 * over at now_ms counts as AVAILABLE.  The same id twice in a batch: the last
 * one counts.  Holds in memory that are over at now_ms expire in the same batch.
 *
 * SEAT_CHANGES: rows are seats that may have changed; unknown ids are ignored
 * (and counted in unknown): a new seat becomes known with the next snapshot.
 * SEAT_SNAPSHOT: rows are the whole block; seats not among them are removed,
 * new ones added, either moves seat_layout_version to the new version.  The
 * first snapshot always makes version 1, even of an empty block.
 *
 * 0, or -1: ENOMEM, and nothing has changed.
 */
enum seat_batch { SEAT_CHANGES, SEAT_SNAPSHOT };
struct seat_outcome {
	size_t	changed;	/* seats whose effective status is another now (added, removed too) */
	size_t	expired;	/* of these: by the clock alone; rows said nothing or still HOLD */
	size_t	unknown;	/* of SEAT_CHANGES: ids not in memory */
};
int	seat_apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows,
	    int64_t now_ms, struct seat_outcome *out_r);

/* Turn every HOLD with expires_ms <= now_ms AVAILABLE, as one batch.  Returns how many. */
size_t	seat_expire(struct seat_map *m, int64_t now_ms);

/* "AVAILABLE", "HOLD", "OCCUPIED"; parse: 0, or -1 for any other text. */
const char *seat_status_name(enum seat_status s);
int	seat_status_parse(const char *text, enum seat_status *status_r);

#endif
