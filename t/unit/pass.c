/* SPDX-License-Identifier: ISC */
/*
 * view and pass: what a view shows, whose ids are good for whom; then a viewer that
 * reads parts of any size of a match that changes all the time, as a pass leads it,
 * against what was so at each version.
 */
#include <string.h>

#include "loop/pass.h"
#include "loop/view.h"
#include "unit.h"

#define NEVER	SEAT_NO_EXPIRY

static const struct {
	const char	*says;
	struct view	 wide, narrow;
	int		 includes;
} include_cases[] = {
	{ "the same", { VIEW_MATCH, 2, { 1, 3 } }, { VIEW_MATCH, 2, { 1, 3 } }, 1 },
	{ "fewer", { VIEW_MATCH, 3, { 1, 2, 3 } }, { VIEW_MATCH, 2, { 1, 3 } }, 1 },
	{ "none", { VIEW_MATCH, 1, { 1 } }, { VIEW_MATCH, 0, { 0 } }, 1 },
	{ "more", { VIEW_MATCH, 1, { 1 } }, { VIEW_MATCH, 2, { 1, 3 } }, 0 },
	{ "one more before", { VIEW_MATCH, 1, { 3 } }, { VIEW_MATCH, 2, { 1, 3 } }, 0 },
	{ "others", { VIEW_MATCH, 1, { 2 } }, { VIEW_MATCH, 1, { 1 } }, 0 },
	{ "a block for itself is no part of a match: its bytes are others", { VIEW_MATCH, 1, { 1 } }, { VIEW_BLOCK, 1, { 1 } }, 0 },
	{ "nor a match of a block", { VIEW_BLOCK, 1, { 1 } }, { VIEW_MATCH, 0, { 0 } }, 0 },
};

START_TEST(includes)
{
	ck_assert_msg(view_includes(&include_cases[_i].wide, &include_cases[_i].narrow) == include_cases[_i].includes,
	    "%s", include_cases[_i].says);
}
END_TEST

/* Seats 1 to n, every third one in the same block. */
#define BLOCKS	3
#define BLOCK_OF(id)	(1 + (id) % BLOCKS)

static void
apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t n)
{
	struct seat_outcome	 out;

	ck_assert_int_eq(seat_apply(m, kind, rows, n, 0, &out), 0);
}

/* Which version makes init necessary: 1 at first, at 2 seat 2 goes, at 3 block 1 goes. */
static const struct {
	const char	*says;
	struct view	 view;
	uint64_t	 layout[3];
} layout_cases[] = {
	{ "counts alone: when a block comes or goes", { VIEW_MATCH, 0, { 0 } }, { 1, 1, 3 } },
	{ "seats: when one comes or goes in that block", { VIEW_MATCH, 1, { 3 } }, { 1, 2, 3 } },
	{ "and not for another block's", { VIEW_BLOCK, 1, { 2 } }, { 1, 1, 1 } },
	{ "a block that goes", { VIEW_BLOCK, 1, { 1 } }, { 1, 1, 3 } },
};

START_TEST(layout)
{
	static const struct seat_row	 all[] = {
		{ 1, 3, NEVER, SEAT_HOLD }, { 2, 1, NEVER, SEAT_HOLD }, { 3, 2, NEVER, SEAT_HOLD }, { 3, 5, NEVER, SEAT_HOLD }
	};
	static const struct seat_row	 without_a_seat[] = {
		{ 1, 3, NEVER, SEAT_HOLD }, { 2, 1, NEVER, SEAT_HOLD }, { 3, 5, NEVER, SEAT_HOLD }
	};
	const struct view		*v = &layout_cases[_i].view;
	struct seat_map			*m = seat_map_new();

	apply(m, SEAT_SNAPSHOT, all, 4);
	ck_assert_msg(view_layout_version(v, m) == layout_cases[_i].layout[0], "%s", layout_cases[_i].says);
	apply(m, SEAT_SNAPSHOT, without_a_seat, 3);
	ck_assert_msg(view_layout_version(v, m) == layout_cases[_i].layout[1], "%s", layout_cases[_i].says);
	apply(m, SEAT_SNAPSHOT, without_a_seat + 1, 2);
	ck_assert_msg(view_layout_version(v, m) == layout_cases[_i].layout[2], "%s", layout_cases[_i].says);
	seat_map_free(&m);
}
END_TEST

/* --- a slow viewer ----------------------------------------------------------- */

#define SEATS		60
#define VERSIONS	400
#define CELLS		(SEATS + BLOCKS + 1)	/* seats by id, then counts by block */

struct world {
	struct seat_map	*seats;
	struct view	 view;
	uint64_t	 random;
	uint32_t	 history[VERSIONS + 1][CELLS];
	uint32_t	 shown[CELLS];
	uint64_t	 at[CELLS];		/* the earliest version at which that can have been so */
};

static size_t
cell_index(const struct cell *c)
{
	return (c->seat != NULL ? (size_t)c->seat->id - 1 : SEATS + (size_t)c->block->id);
}

static uint32_t
value_of(const struct seat *s, const struct seat_block *b)
{
	return (s != NULL ? (uint32_t)s->status : b->counts[0] << 20 | b->counts[1] << 10 | b->counts[2]);
}

static void
remember(struct world *w)
{
	uint32_t	*row = w->history[seat_version(w->seats)];
	size_t		 i;

	for (i = 0; i < seat_count(w->seats); i++)
		row[seat_at(w->seats, i)->id - 1] = value_of(seat_at(w->seats, i), NULL);
	for (i = 0; i < seat_block_count(w->seats); i++)
		row[SEATS + seat_block_at(w->seats, i)->id] = value_of(NULL, seat_block_at(w->seats, i));
}

static void
change(struct world *w)
{
	struct seat_row	 rows[SEATS];
	size_t		 n = 1 + (size_t)unit_random(&w->random, unit_random(&w->random, 2) ? 4 : SEATS), i;
	uint64_t	 before = seat_version(w->seats);

	for (i = 0; i < n; i++) {
		rows[i].id = 1 + (int64_t)unit_random(&w->random, SEATS);
		rows[i].block_id = BLOCK_OF(rows[i].id);
		rows[i].status = (enum seat_status)unit_random(&w->random, 3);
		rows[i].expires_ms = NEVER;
	}
	apply(w->seats, SEAT_CHANGES, rows, n);
	if (seat_version(w->seats) > before)
		remember(w);
}

static void
show(struct world *w, const struct cell *c)
{
	size_t		 i = cell_index(c);
	uint32_t	 value = value_of(c->seat, c->block);
	uint64_t	 v;

	for (v = w->at[i]; v <= seat_version(w->seats) && w->history[v][i] != value; v++)
		;
	ck_assert_msg(v <= seat_version(w->seats), "cell %zu shows what it was before version %d", i, (int)w->at[i]);
	w->shown[i] = value;
	w->at[i] = v;
}

/* All that the view shows was so at that version or is newer. */
static void
is_complete(struct world *w, uint64_t version)
{
	const struct view_known	 nothing = { 0, VIEW_END, 0 };
	struct view_walk	 walk;
	struct cell		 c;
	size_t			 i;
	uint64_t		 v;

	view_walk_init(&walk, &w->view, w->seats, &nothing, VIEW_BEGIN);
	while (view_walk_next(&walk, &c)) {
		i = cell_index(&c);
		for (v = version > w->at[i] ? version : w->at[i]; v <= seat_version(w->seats) &&
		    w->history[v][i] != w->shown[i]; v++)
			;
		ck_assert_msg(v <= seat_version(w->seats), "cell %zu is not up to version %d", i, (int)version);
	}
}

/* Show up to that many cells from place on.  Returns the place after them. */
static uint64_t
take(struct world *w, const struct view_known *known, uint64_t from, size_t most, size_t *taken_r)
{
	struct view_walk	 walk;
	struct cell		 c;
	uint64_t		 last = from;

	view_walk_init(&walk, &w->view, w->seats, known, from);
	for (*taken_r = 0; view_walk_next(&walk, &c); (*taken_r)++) {
		ck_assert_msg(c.place > last || *taken_r == 0, "places ascend");
		ck_assert_uint_ge(c.place, from);
		if (*taken_r == most)
			return (c.place);
		show(w, &c);
		last = c.place;
	}
	return (VIEW_END);
}

START_TEST(a_pass_misses_nothing_and_shows_nothing_old)
{
	static const struct view views[] = {
		{ VIEW_MATCH, 2, { 1, 3 } }, { VIEW_MATCH, 0, { 0 } }, { VIEW_BLOCK, 1, { 2 } }, { VIEW_MATCH, 3, { 1, 2, 3 } }
	};
	static struct world	 w;
	struct pass		 pass = { .known = { 1, VIEW_END, 0 } };
	struct seat_row		 rows[SEATS];
	size_t			 taken, passes = 0;
	uint64_t		 next;
	int64_t			 id;

	memset(&w, 0, sizeof(w));
	w.random = unit_seed(_i);
	w.view = views[_i % (int)nitems(views)];
	w.seats = seat_map_new();
	for (id = 1; id <= SEATS; id++)
		rows[id - 1] = (struct seat_row){ BLOCK_OF(id), id, NEVER, SEAT_AVAILABLE };
	apply(w.seats, SEAT_SNAPSHOT, rows, SEATS);
	remember(&w);
	memcpy(w.shown, w.history[1], sizeof(w.shown));
	for (id = 0; id < CELLS; id++)
		w.at[id] = 1;
	while (seat_version(w.seats) < VERSIONS - 1) {
		change(&w);
		if (pass_wants(&pass)) {
			next = take(&w, &pass.known, pass.place, 1 + (size_t)unit_random(&w.random, 4), &taken);
			pass_gave(&pass, seat_version(w.seats), next);
			continue;
		}
		is_complete(&w, pass.known.version);
		if (pass.known.version == seat_version(w.seats))
			continue;
		/* a whole frame, of which some is taken before the next version */
		next = take(&w, &pass.known, VIEW_BEGIN, (size_t)unit_random(&w.random, 12), &taken);
		if (next == VIEW_END)
			pass.known = (struct view_known){ seat_version(w.seats), VIEW_END, 0 };
		else {
			pass_begin(&pass, seat_version(w.seats), next);
			passes++;
		}
	}
	while (pass_wants(&pass)) {
		next = take(&w, &pass.known, pass.place, 3, &taken);
		pass_gave(&pass, seat_version(w.seats), next);
	}
	is_complete(&w, pass.known.version);
	ck_assert_int_eq(take(&w, &pass.known, VIEW_BEGIN, SIZE_MAX, &taken), VIEW_END);
	is_complete(&w, seat_version(w.seats));
	ck_assert_msg(passes > 5, "it was never slow: this tests nothing");
	seat_map_free(&w.seats);
}
END_TEST

/* Rules one by one: seats 2, 4, 6 changed at version 2, of them 2 was sent; then 2 and 6 change at 3. */
START_TEST(what_came_in_a_pass_does_not_come_again)
{
	static const struct view	 v = { VIEW_BLOCK, 1, { 1 } };
	struct seat_map			*m = seat_map_new();
	struct pass			 p = { .known = { 1, VIEW_END, 0 } };
	struct view_walk		 walk;
	struct cell			 c;
	struct seat_row			 rows[8];
	int64_t				 id;

	for (id = 1; id <= 8; id++)
		rows[id - 1] = (struct seat_row){ 1, id, NEVER, SEAT_AVAILABLE };
	apply(m, SEAT_SNAPSHOT, rows, 8);
	rows[1].status = rows[3].status = rows[5].status = SEAT_HOLD;
	apply(m, SEAT_CHANGES, rows, 8);
	pass_begin(&p, 2, 4);
	rows[1].status = rows[5].status = SEAT_OCCUPIED;
	apply(m, SEAT_CHANGES, rows, 8);
	ck_assert(pass_wants(&p));
	ck_assert_uint_eq(p.place, 4);
	pass_gave(&p, 3, VIEW_END);
	ck_assert(!pass_wants(&p));
	ck_assert_msg(p.known.version == 2 && p.known.ahead == 4 && p.known.ahead_version == 3, "it has 2, and from 4 on 3");
	view_walk_init(&walk, &v, m, &p.known, VIEW_BEGIN);
	ck_assert(view_walk_next(&walk, &c) && c.seat->id == 2);
	ck_assert_msg(!view_walk_next(&walk, &c), "6 came in the pass");
	seat_map_free(&m);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("pass");
	TCase	*tc;

	tc = unit_case(s, "view");
	unit_rows(tc, includes, include_cases);
	unit_rows(tc, layout, layout_cases);
	tc = unit_case(s, "pass");
	tcase_add_test(tc, what_came_in_a_pass_does_not_come_again);
	tcase_add_loop_test(tc, a_pass_misses_nothing_and_shows_nothing_old, 0, 40);
	return (unit_main(s));
}
