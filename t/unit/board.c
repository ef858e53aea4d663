/* SPDX-License-Identifier: ISC */
/* board: slots are claimed and released, counters survive their process, groups are found. */
#include <sys/mman.h>

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "shared/board.h"
#include "unit.h"

START_TEST(a_live_group_is_found_by_its_key_only)
{
	struct board		*b = board_new(3, NULL);
	struct board_slot	*s = board_claim(b, BOARD_LOOP, 1, 101);

	ck_assert_ptr_nonnull(s);
	ck_assert(!board_group_live(b, 1, 101));	/* claimed, not live yet */
	s->live = 1;
	ck_assert(board_group_live(b, 1, 101));
	ck_assert(!board_group_live(b, 101, 1));
	ck_assert(!board_group_live(b, 1, 102));
	board_release(b, s);
	ck_assert(!board_group_live(b, 1, 101));
}
END_TEST

START_TEST(counters_survive_their_slot_and_gauges_do_not)
{
	struct board		*b = board_new(2, NULL);
	struct board_slot	*s = board_claim(b, BOARD_LOOP, 1, 1);

	board_add(s, BOARD_polls, 5);
	board_set(s, BOARD_viewers, 7);
	ck_assert_int_eq(board_total(b, BOARD_polls), 5);
	ck_assert_int_eq(board_total(b, BOARD_viewers), 7);
	board_release(b, s);
	ck_assert_int_eq(board_total(b, BOARD_polls), 5);
	ck_assert_int_eq(board_total(b, BOARD_viewers), 0);
	s = board_claim(b, BOARD_LOOP, 1, 1);
	ck_assert_int_eq(board_get(s, BOARD_polls), 0);
	board_add(s, BOARD_polls, 2);
	ck_assert_int_eq(board_total(b, BOARD_polls), 7);
}
END_TEST

START_TEST(a_full_board_gives_no_slot)
{
	struct board		*b = board_new(2, NULL);
	struct board_slot	*first = board_claim(b, BOARD_WORKER, 0, 0);

	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_nonnull(board_claim(b, BOARD_WORKER, 0, 0));
	ck_assert_ptr_null(board_claim(b, BOARD_WORKER, 0, 0));
	board_release(b, first);
	ck_assert_ptr_eq(board_claim(b, BOARD_WORKER, 0, 0), first);
}
END_TEST

START_TEST(a_duration_falls_into_the_first_bucket_that_holds_it)
{
	struct board		*b = board_new(1, NULL);
	struct board_slot	*s = board_claim(b, BOARD_LOOP, 1, 1);
	struct board_durations	 sum;

	board_observe(s, BOARD_POLL, 1000);		/* 1 ms: the bound belongs to the bucket */
	board_observe(s, BOARD_POLL, 1001);
	board_observe(s, BOARD_POLL, 60000000);
	board_observe(s, BOARD_DELAY, 1);
	board_release(b, s);			/* its durations stay in the totals */
	s = board_claim(b, BOARD_LOOP, 1, 1);
	board_observe(s, BOARD_POLL, 1);
	board_total_durations(b, BOARD_POLL, &sum);
	ck_assert_int_eq(sum.bucket[0], 2);
	ck_assert_int_eq(sum.bucket[1], 1);
	ck_assert_int_eq(sum.bucket[BOARD_BUCKETS - 1], 1);
	ck_assert_int_eq(sum.us, 60002002);
	ck_assert_int_eq(s->histogram[BOARD_DELAY].us, 0);
}
END_TEST

START_TEST(who_joins_sees_the_same_values_and_can_not_write_or_shorten_them)
{
	struct board		*b;
	const struct board	*joined;
	struct board_slot	*s;
	int			 fd = -1;

	b = board_new(2, &fd);
	ck_assert_ptr_nonnull(b);
	ck_assert_int_ne(fd, -1);
	ck_assert_ptr_nonnull(joined = board_join(fd));
	ck_assert_ptr_nonnull(s = board_claim(b, BOARD_LOOP, 1, 101));
	s->live = 1;
	ck_assert(board_group_live(joined, 1, 101));
	board_add(s, BOARD_requests, 3);
	ck_assert_int_eq(board_total(joined, BOARD_requests), 3);
	ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	ck_assert_int_eq(mprotect((void *)(uintptr_t)joined, 4096, PROT_READ | PROT_WRITE), -1);
	ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	ck_assert_int_eq(ftruncate(fd, 1 << 24), -1);
	b->nslots = (size_t)1 << 60;	/* does not fit into the memory */
	ck_assert_ptr_null(board_join(fd));
	b->nslots = 2;
	b->layout++;			/* another version's */
	ck_assert_ptr_null(board_join(fd));
	fd_close(&fd);
}
END_TEST

START_TEST(memory_that_can_be_taken_away_is_not_joined)
{
	int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
	ck_assert_ptr_null(board_join(fd));
	ck_assert_ptr_null(board_slot_join(fd));
	fd_close(&fd);
}
END_TEST

START_TEST(a_slot_of_its_own_is_shown_and_decides_nothing)
{
	struct board		*b = board_new(2, NULL);
	struct board_slot	*on_board = board_claim(b, BOARD_WORKER, 0, 0), *ours, *its;
	struct board_said	 said;
	int			 fd = -1;

	ck_assert_ptr_nonnull(ours = board_slot_new(&fd));
	ck_assert_ptr_nonnull(its = board_slot_join(fd));
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	board_add(its, BOARD_requests, 7);
	board_observe(its, BOARD_POLL, 1);
	its->kind = BOARD_LOOP;
	its->live = 1;
	its->match_id = its->block_id = 1;
	memset(its->said.text, 'x', sizeof(its->said.text));	/* without an end */
	its->said.unix_ms = INT64_MAX;
	board_slot_show(on_board, ours);
	ck_assert_int_eq(board_total(b, BOARD_requests), 7);
	ck_assert_int_eq(on_board->kind, BOARD_WORKER);
	board_set(its, BOARD_polls, INT64_MAX);
	board_set(its, BOARD_events, INT64_MIN);
	board_slot_show(on_board, ours);
	ck_assert_int_lt(board_total(b, BOARD_polls), INT64_MAX / 10000);	/* of many such the sum is none that overflows */
	ck_assert_int_eq(board_total(b, BOARD_events), 0);
	ck_assert(!board_group_live(b, 1, 1));
	ck_assert(board_last_said(b, &said));
	ck_assert_uint_lt(strlen(said.text), sizeof(said.text));
	ck_assert_int_lt(said.unix_ms, INT64_MAX);
	board_release(b, on_board);
	board_slot_free(&ours);
	fd_close(&fd);
	ck_assert_int_eq(board_total(b, BOARD_requests), 7);
}
END_TEST

START_TEST(the_last_warning_of_all_processes_is_kept_also_when_its_process_ends)
{
	struct board		*b = board_new(4, NULL);
	struct board_slot	*one, *other;
	struct board_said	 said;
	char			 much[1000] = "";

	ck_assert_ptr_nonnull(b);
	ck_assert(!board_last_said(b, &said));
	ck_assert_ptr_nonnull(one = board_claim(b, BOARD_WORKER, 0, 0));
	ck_assert_ptr_nonnull(other = board_claim(b, BOARD_LOOP, 1, 101));
	board_say(one, "worker: first");
	ck_assert(board_last_said(b, &said));
	ck_assert_str_eq(said.text, "worker: first");
	board_say(other, "loop: second");
	other->said.unix_ms += 5;
	ck_assert(board_last_said(b, &said));
	ck_assert_str_eq(said.text, "loop: second");
	board_release(b, other);
	ck_assert(board_last_said(b, &said));
	ck_assert_str_eq(said.text, "loop: second");
	board_say(one, memset(much, 'x', sizeof(much) - 1));
	one->said.unix_ms += 9;
	ck_assert(board_last_said(b, &said));
	ck_assert_uint_eq(strlen(said.text), sizeof(said.text) - 1);
}
END_TEST

START_TEST(names_end_in_the_base_unit_and_what_they_are)
{
	ck_assert_str_eq(board_name(BOARD_lag), "lag_seconds");
	ck_assert_uint_eq(board_per_unit(BOARD_lag), 1000);
	ck_assert_str_eq(board_name(BOARD_busy), "busy_seconds_total");
	ck_assert_uint_eq(board_per_unit(BOARD_busy), 1000000);
	ck_assert_str_eq(board_name(BOARD_sent), "sent_bytes_total");
	ck_assert_str_eq(board_name(BOARD_viewers), "viewers");
	ck_assert_uint_eq(board_per_unit(BOARD_viewers), 1);
}
END_TEST

START_TEST(every_value_has_a_name_and_a_text)
{
	ck_assert_str_ne(board_name((enum board_value)_i), "");
	ck_assert_str_ne(board_text((enum board_value)_i), "");
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("board");
	TCase	*tc = unit_case(s, "board");

	tcase_add_test(tc, a_live_group_is_found_by_its_key_only);
	tcase_add_test(tc, counters_survive_their_slot_and_gauges_do_not);
	tcase_add_test(tc, a_full_board_gives_no_slot);
	tcase_add_test(tc, a_duration_falls_into_the_first_bucket_that_holds_it);
	tcase_add_test(tc, who_joins_sees_the_same_values_and_can_not_write_or_shorten_them);
	tcase_add_test(tc, memory_that_can_be_taken_away_is_not_joined);
	tcase_add_test(tc, a_slot_of_its_own_is_shown_and_decides_nothing);
	tcase_add_test(tc, the_last_warning_of_all_processes_is_kept_also_when_its_process_ends);
	tcase_add_test(tc, names_end_in_the_base_unit_and_what_they_are);
	tcase_add_loop_test(tc, every_value_has_a_name_and_a_text, 0, BOARD__MAX);
	return (unit_main(s));
}
