/* SPDX-License-Identifier: ISC */
/*
 * Places order cells of both kinds in one number: a seat's is its id, that of
 * counts the block's id with the top bit set, which no id has.
 *
 * Seats are kept by block, and shown by id: the walk merges the runs of the
 * view's blocks, of which there are few, by the smallest id.  Blocks in which
 * nothing has changed since then are not looked into.
 */
#include "loop/view.h"

#define COUNTS_PLACE	(UINT64_C(1) << 63)

uint64_t
view_layout_version(const struct view *v, const struct seat_map *seats)
{
	const struct seat_block	*b;
	uint64_t		 last = v->kind == VIEW_MATCH ? seat_blocks_version(seats) : 0;
	size_t			 i;

	for (i = 0; i < v->nblocks; i++) {
		b = seat_block_find(seats, v->blocks[i]);
		if (b == NULL && seat_blocks_version(seats) > last)
			last = seat_blocks_version(seats);	/* it may have been there before */
		if (b != NULL && b->layout_version > last)
			last = b->layout_version;
	}
	return (last);
}

bool
view_includes(const struct view *wide, const struct view *narrow)
{
	size_t	 i, k = 0;

	if (wide->kind != narrow->kind)
		return (false);
	for (i = 0; i < narrow->nblocks; i++) {	/* both ascending */
		while (k < wide->nblocks && wide->blocks[k] < narrow->blocks[i])
			k++;
		if (k == wide->nblocks || wide->blocks[k] != narrow->blocks[i])
			return (false);
	}
	return (true);
}

static bool
is_news(const struct view_known *known, uint64_t place, uint64_t version)
{
	bool ahead = known->ahead != VIEW_END && place >= known->ahead;

	return (version > (ahead ? known->ahead_version : known->version));
}

/* The next seat of a run that is news, from index i on. */
static size_t
next_seat(const struct view_walk *w, const struct seat_block *b, size_t i)
{
	for (; i < b->end; i++) {
		const struct seat *s = seat_at(w->seats, i);

		if (is_news(&w->known, (uint64_t)s->id, s->version))
			break;
	}
	return (i);
}

static size_t
next_counts(const struct view_walk *w, size_t i)
{
	for (; i < seat_block_count(w->seats); i++) {
		const struct seat_block *b = seat_block_at(w->seats, i);

		if (is_news(&w->known, COUNTS_PLACE | (uint64_t)b->id, b->counts_version))
			break;
	}
	return (i);
}

void
view_walk_init(struct view_walk *w, const struct view *v, const struct seat_map *seats,
    const struct view_known *known, uint64_t from)
{
	const struct seat_block	*b;
	size_t			 i, at;

	w->seats = seats;
	w->known = *known;
	w->nruns = 0;
	for (i = 0; i < v->nblocks && from < COUNTS_PLACE; i++) {
		b = seat_block_find(seats, v->blocks[i]);
		if (b == NULL || b->seats_version <= known->version)
			continue;
		at = from == VIEW_BEGIN ? b->first : seat_lower_bound(seats, b, (int64_t)from);
		w->runs[w->nruns].block = b;
		w->runs[w->nruns++].at = next_seat(w, b, at);
	}
	w->counts_at = seat_block_count(seats);
	if (v->kind != VIEW_MATCH)
		return;
	for (i = 0; i < seat_block_count(seats) && (COUNTS_PLACE | (uint64_t)seat_block_at(seats, i)->id) < from; i++)
		;
	w->counts_at = next_counts(w, i);
}

bool
view_walk_next(struct view_walk *w, struct cell *cell_r)
{
	size_t	 i, first = w->nruns;

	for (i = 0; i < w->nruns; i++)
		if (w->runs[i].at < w->runs[i].block->end && (first == w->nruns ||
		    seat_at(w->seats, w->runs[i].at)->id < seat_at(w->seats, w->runs[first].at)->id))
			first = i;
	if (first < w->nruns) {
		cell_r->seat = seat_at(w->seats, w->runs[first].at);
		cell_r->block = w->runs[first].block;
		cell_r->place = (uint64_t)cell_r->seat->id;
		w->runs[first].at = next_seat(w, cell_r->block, w->runs[first].at + 1);
		return (true);
	}
	if (w->counts_at < seat_block_count(w->seats)) {
		cell_r->seat = NULL;
		cell_r->block = seat_block_at(w->seats, w->counts_at);
		cell_r->place = COUNTS_PLACE | (uint64_t)cell_r->block->id;
		w->counts_at = next_counts(w, w->counts_at + 1);
		return (true);
	}
	return (false);
}
