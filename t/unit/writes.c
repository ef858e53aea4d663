/* SPDX-License-Identifier: ISC */
/*
 * writes: who stands behind whom.  The lanes are queues of a database that never answers.
 */
#include <stdlib.h>

#include "base/mono.h"
#include "shared/db.h"
#include "unit.h"
#include "worker/writes.h"

struct db {
	size_t	waiting;
};

static int64_t	now_ms;
static size_t	opened;

int64_t
mono_ms(void)
{
	return (now_ms);
}

struct db *
db_new(struct ev_loop *ev, const char *conninfo, struct board_slot *slot)
{
	(void)ev;
	(void)conninfo;
	(void)slot;
	opened++;
	return (calloc(1, sizeof(struct db)));
}

void
db_free(struct db **dbp)
{
	free(*dbp);
	*dbp = NULL;
}

size_t
db_waiting(const struct db *db)
{
	return (db->waiting);
}

static struct writes *
begin(void)
{
	struct writes *w;

	now_ms = 1000;
	opened = 0;
	w = writes_new(NULL, "", NULL);
	ck_assert_ptr_nonnull(w);
	return (w);
}

static struct db *
lane(struct writes *w, int64_t seat, bool *hot)
{
	return (writes_lane(w, 1, &seat, 1, hot));
}

START_TEST(a_locked_seat_has_a_lane_of_its_own)
{
	struct writes	*w = begin();
	const int64_t	 basket[] = { 7, 101 }, seat = 101;
	struct db	*fast, *slow;
	bool		 hot;

	fast = lane(w, 101, &hot);
	ck_assert(fast != NULL && !hot && opened == 1);
	writes_met_lock(w, 1, &seat, 1);
	slow = lane(w, 101, &hot);
	ck_assert(slow != NULL && slow != fast && hot && opened == 2);
	ck_assert_ptr_eq(lane(w, 102, &hot), fast);
	ck_assert_ptr_eq(writes_lane(w, 2, &seat, 1, &hot), fast);	/* the same seat in another match */
	ck_assert_ptr_eq(writes_lane(w, 1, basket, 2, &hot), slow);
	slow->waiting = 1;
	ck_assert(lane(w, 101, &hot) == NULL && hot);			/* one asks, the others hear at once */
	ck_assert_ptr_eq(lane(w, 102, &hot), fast);
	slow->waiting = 0;
	writes_went_through(w, 1, basket, 2);
	ck_assert(lane(w, 101, &hot) == fast && !hot);
	writes_free(&w);
}
END_TEST

START_TEST(a_seat_cools)
{
	struct writes	*w = begin();
	const int64_t	 seat = 101;
	bool		 hot;

	writes_met_lock(w, 1, &seat, 1);
	now_ms += 4000;
	writes_met_lock(w, 1, &seat, 1);
	now_ms += 4000;
	(void)lane(w, 101, &hot);
	ck_assert(hot);
	now_ms += 1500;
	(void)lane(w, 101, &hot);
	ck_assert(!hot);
	writes_free(&w);
}
END_TEST

START_TEST(more_hot_seats_than_places)
{
	struct writes	*w = begin();
	int64_t		 seat;
	bool		 hot;

	for (seat = 1; seat <= 1000; seat++) {
		now_ms++;
		writes_met_lock(w, 1, &seat, 1);
	}
	(void)lane(w, 1000, &hot);
	ck_assert(hot);
	(void)lane(w, 1, &hot);			/* has given its place to a hotter one */
	ck_assert(!hot);
	writes_free(&w);
}
END_TEST

START_TEST(the_fast_lane_has_an_end)
{
	struct writes	*w = begin();
	struct db	*fast;
	bool		 hot;

	fast = lane(w, 101, &hot);
	fast->waiting = 255;
	ck_assert_ptr_eq(lane(w, 101, &hot), fast);
	fast->waiting = 256;
	ck_assert(lane(w, 101, &hot) == NULL && !hot);
	ck_assert_uint_eq(opened, 1);
	writes_free(&w);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("writes");
	TCase	*tc = unit_case(s, "writes");

	tcase_add_test(tc, a_locked_seat_has_a_lane_of_its_own);
	tcase_add_test(tc, a_seat_cools);
	tcase_add_test(tc, more_hot_seats_than_places);
	tcase_add_test(tc, the_fast_lane_has_an_end);
	return (unit_main(s));
}
