/* SPDX-License-Identifier: ISC */
/*
 * board - the scoreboard: who is alive, which groups are live, and the counters.
 *
 * Shared memory made before the first fork: one slot per process.  The master
 * claims and releases slots; a process writes only its own; anybody reads.  It can
 * only be written by the master and who was forked from it: a worker that joined
 * gets it read-only, and writes a slot in memory of its own.  All
 * values are 64-bit and written whole, so a reader sees old or new, never half;
 * counters of a released slot are kept in the board's totals.
 * Runs in: all.  Never blocks, no I/O, no log.
 */
#ifndef BOARD_H
#define BOARD_H

#include <sys/types.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum board_kind { BOARD_FREE, BOARD_MASTER, BOARD_WORKER, BOARD_LOOP };

enum board_value {
#define BOARD(name, KIND, UNIT, text)	BOARD_##name,
#include "shared/board_tbl.h"
#undef BOARD
	BOARD__MAX
};

/* Durations: bucket i counts those of at most board_bucket_ms[i]; the last one has no bound. */
enum board_histogram {
	BOARD_POLL,		/* of good polls, from sending the query to its answer */
	BOARD_DELAY,		/* from a change to its sending, at most: see poller.c */
	BOARD_HISTOGRAMS
};
#define BOARD_BUCKETS	14
extern const unsigned board_bucket_ms[BOARD_BUCKETS - 1];

struct board_durations {
	_Atomic int64_t		 bucket[BOARD_BUCKETS];
	_Atomic int64_t		 us;		/* sum of all */
};

/* The last warning or error that a process logged.  unix_ms is 0 while the text is being written. */
struct board_said {
	_Atomic int64_t		 unix_ms;	/* 0: none */
	char			 text[240];
};

struct board_slot {
	_Atomic int		 kind;		/* enum board_kind; set last on claim, first on release */
	_Atomic int		 live;		/* loops: takes viewers (the master decides) */
	_Atomic int64_t		 pid;
	_Atomic int64_t		 match_id;
	_Atomic int64_t		 block_id;
	_Atomic int64_t		 born_ms;	/* monotonic */
	_Atomic int64_t		 value[BOARD__MAX];
	struct board_durations	 histogram[BOARD_HISTOGRAMS];
	struct board_said	 said;
};

struct board {
	uint64_t		 layout;	/* of the memory: differs between versions that can't share it */
	size_t			 nslots;
	_Atomic int64_t		 born_unix_ms;
	_Atomic int		 draining;
	struct board_slot	 retired;	/* what released slots had counted */
	struct board_slot	 slot[];
};

/*
 * NULL: errno.  fd_r (may be NULL): the memory's descriptor, the caller's, for
 * board_join in another process, which can only read; not written where the
 * kernel can't promise that (before Linux 5.1).
 */
struct board	*board_new(size_t nslots, int *fd_r);
const struct board *board_join(int fd);	/* NULL: errno or EINVAL, not a scoreboard of this version.  fd stays the caller's */

/*
 * The slot of a process that is no child of the master's: memory of those two
 * alone.  The master shows it on the board now and then, and believes nothing in
 * it.  NULL: errno.  fd_r is the caller's.
 */
struct board_slot *board_slot_new(int *fd_r);
struct board_slot *board_slot_join(int fd);	/* fd stays the caller's */
void		 board_slot_free(struct board_slot **sp);	/* accepts NULL */
void		 board_slot_show(struct board_slot *to, const struct board_slot *from);

/* Master only.  NULL: no slot is free. */
struct board_slot *board_claim(struct board *b, enum board_kind kind, int64_t match_id, int64_t block_id);
void		 board_release(struct board *b, struct board_slot *s);

void		 board_add(struct board_slot *s, enum board_value v, int64_t n);
void		 board_set(struct board_slot *s, enum board_value v, int64_t n);
int64_t		 board_get(const struct board_slot *s, enum board_value v);
void		 board_observe(struct board_slot *s, enum board_histogram h, int64_t us);

void		 board_say(void *slot, const char *text);	/* a warning was logged: for log_watch */

int64_t		 board_total(const struct board *b, enum board_value v);	/* over all slots and the retired */
void		 board_total_durations(const struct board *b, enum board_histogram h, struct board_durations *sum_r);
bool		 board_last_said(const struct board *b, struct board_said *copy_r);	/* false: nothing yet */
bool		 board_group_live(const struct board *b, int64_t match_id, int64_t block_id);

enum board_shape { BOARD_GAUGE, BOARD_COUNTER, BOARD_PRIVATE };
enum board_shape board_shape(enum board_value v);
const char	*board_name(enum board_value v);	/* as exported: "late_seats_total", "lag_seconds" */
const char	*board_text(enum board_value v);
unsigned	 board_per_unit(enum board_value v);	/* how many make one of the exported unit: 1000 of milliseconds */

#endif
