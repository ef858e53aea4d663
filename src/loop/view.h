/* SPDX-License-Identifier: ISC */
/*
 * view - what a viewer's view shows of a group's seats, as cells.
 *
 * A cell is a seat with its status, or a block with its counts: something that
 * has a place, a value and the version that last changed it.  A view walks the
 * cells that are news to somebody, in the order of their places: seats by id,
 * then counts by block.  Who caches, sends, conflates and resumes works with
 * versions and places and never asks what a cell means; only sse does.
 * Runs in: loop.  Pure: no descriptor, no clock, no log; allocates nothing.
 */
#ifndef VIEW_H
#define VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/seat.h"
#include "shared/group.h"

#define VIEW_BEGIN	0		/* as a place: before all cells */
#define VIEW_END	0		/* … and, where the next one is told, after all of them */

struct cell {
	uint64_t		 place;
	const struct seat	*seat;	/* NULL: the cell is the counts of block */
	const struct seat_block	*block;
};

/* What a viewer has of its view's cells. */
struct view_known {
	uint64_t	version;	/* all of them to this version … */
	uint64_t	ahead;		/* … and those from this place on (VIEW_END: none) */
	uint64_t	ahead_version;	/* to this one */
};

/* Version that last added or removed what the view shows: who is older needs init. */
uint64_t	view_layout_version(const struct view *v, const struct seat_map *seats);

/* Does wide show all that narrow does, in the same bytes?  Then an id of wide is good for narrow. */
bool		view_includes(const struct view *wide, const struct view *narrow);

/*
 * Walk the cells from a place on (VIEW_BEGIN: all) that are news to who has known,
 * as long as the seats stay as they are.
 */
struct view_walk {
	const struct seat_map	*seats;
	struct view_known	 known;
	struct {
		const struct seat_block	*block;
		size_t			 at;	/* its next seat that is news; block->end: none */
	} runs[VIEW_MAX_BLOCKS];
	size_t			 nruns;
	size_t			 counts_at;	/* index of the next block whose counts are news; seat_block_count: none */
};

void		view_walk_init(struct view_walk *w, const struct view *v, const struct seat_map *seats,
		    const struct view_known *known, uint64_t from);
bool		view_walk_next(struct view_walk *w, struct cell *cell_r);	/* false: that was all */

#endif
