/* SPDX-License-Identifier: ISC */
/*
 * exists: everybody who waits for the same answer shares one query, who comes right after it needs none, and nobody waits for ever.
 */
#include <ev.h>
#include <stdlib.h>
#include <string.h>

#include "base/mono.h"
#include "shared/db.h"
#include "unit.h"
#include "worker/complaint.h"
#include "worker/exists.h"

/* A database that answers when the test says so. */
static struct db_query	*asked[16];
static int64_t		 now_ms;
static size_t		 nasked, ncancelled, ncomplaints;

int64_t
mono_ms(void)
{
	return (now_ms);
}

void
db_submit(struct db *db, struct db_query *q)
{
	(void)db;
	asked[nasked++] = q;
}

void
db_cancel(struct db_query *q)
{
	(void)q;
	ncancelled++;
}

void
complain(const struct board *board, struct board_slot *slot, const struct db_answer *a)
{
	(void)board;
	(void)slot;
	(void)a;
	ncomplaints++;
}

static void
answer(struct db_query *q, const char *word, const char *sqlstate)
{
	struct db_answer	 a = { NULL, word == NULL ? "error" : NULL, sqlstate, 0, 0 };
	PGresult		*r = NULL;
	char			 text[8] = "exists";
	PGresAttDesc		 column = { text, 0, 0, 0, 16, 1, -1 };

	if (word != NULL) {
		r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
		ck_assert(PQsetResultAttrs(r, 1, &column));
		snprintf(text, sizeof(text), "%s", word);
		ck_assert(PQsetvalue(r, 0, 0, text, (int)strlen(text)));
		a.result = r;
	}
	q->done(q, &a);
	PQclear(r);
}

struct heard {
	struct exists_asker	 asker;
	struct exists		*exists;
	int			 times;
	enum exists_answer	 answer;
	struct heard		*forgets;	/* when it hears, that one stops asking */
};

static void
on_answer(void *arg, enum exists_answer answer)
{
	struct heard *h = arg;

	h->times++;
	h->answer = answer;
	if (h->forgets != NULL)
		exists_forget(&h->forgets->asker);
}

static struct ev_loop	*loop;

static struct exists *
begin(void)
{
	struct exists *e;

	nasked = ncancelled = ncomplaints = 0;
	loop = ev_loop_new(EVFLAG_AUTO);
	e = exists_new(loop, NULL, NULL, NULL);
	ck_assert_ptr_nonnull(e);
	return (e);
}

static void
end(struct exists *e)
{
	exists_free(&e);
	ev_loop_destroy(loop);
}

static void
ask(struct exists *e, struct heard *h, int64_t match, uint8_t kind, int64_t block, int64_t timeout_ms)
{
	struct view view;

	memset(&view, 0, sizeof(view));
	view.kind = kind;
	view.nblocks = block != 0;
	view.blocks[0] = block;
	h->asker.done = on_answer;
	h->asker.arg = h;
	ck_assert_int_eq(exists_ask(e, match, &view, timeout_ms, &h->asker), 0);
}

START_TEST(one_question_for_all)
{
	struct exists	*e = begin();
	struct heard	 h[100] = { { .times = 0 } }, other = { .times = 0 }, match = { .times = 0 };
	size_t		 i;

	for (i = 0; i < nitems(h); i++)
		ask(e, &h[i], 1, VIEW_BLOCK, 101, 5000);
	ck_assert_uint_eq(nasked, 1);
	ck_assert_str_eq(asked[0]->params[0], "1");
	ck_assert_str_eq(asked[0]->params[1], "101");
	ask(e, &other, 1, VIEW_BLOCK, 102, 5000);
	ask(e, &match, 1, VIEW_MATCH, 101, 5000);
	ck_assert_uint_eq(nasked, 3);
	ck_assert_str_eq(asked[2]->params[1], "{101}");
	answer(asked[0], "t", "");
	for (i = 0; i < nitems(h); i++)
		ck_assert(h[i].times == 1 && h[i].answer == EXISTS_YES);
	answer(asked[1], "f", "");
	ck_assert(other.times == 1 && other.answer == EXISTS_NO);
	answer(asked[2], NULL, "42883");
	ck_assert(match.times == 1 && match.answer == EXISTS_UNKNOWN && ncomplaints == 1);
	end(e);
}
END_TEST

static bool
known(const struct exists *e, int64_t match, uint8_t kind, int64_t block, int64_t other)
{
	struct view view;

	memset(&view, 0, sizeof(view));
	view.kind = kind;
	view.nblocks = (block != 0) + (other != 0);
	view.blocks[0] = block;
	view.blocks[1] = other;
	return (exists_known(e, match, &view));
}

/* What was said to exist need not be asked for again at once: not for another view of it either. */
START_TEST(an_answer_is_good_for_a_while)
{
	struct exists	*e = begin();
	struct heard	 one = { .times = 0 }, none = { .times = 0 };

	ck_assert(!known(e, 1, VIEW_BLOCK, 101, 0));
	ask(e, &one, 1, VIEW_BLOCK, 101, 5000);
	ck_assert(!known(e, 1, VIEW_BLOCK, 101, 0));
	answer(asked[0], "t", "");
	ck_assert(known(e, 1, VIEW_BLOCK, 101, 0));
	ck_assert(known(e, 1, VIEW_MATCH, 101, 0));
	ck_assert(known(e, 1, VIEW_MATCH, 0, 0));
	ck_assert(!known(e, 1, VIEW_MATCH, 101, 102));
	ck_assert(!known(e, 2, VIEW_BLOCK, 101, 0));
	ask(e, &none, 1, VIEW_BLOCK, 102, 5000);
	answer(asked[1], "f", "");
	ck_assert(!known(e, 1, VIEW_BLOCK, 102, 0));
	now_ms += 1999;
	ck_assert(known(e, 1, VIEW_BLOCK, 101, 0));
	now_ms += 1;
	ck_assert(!known(e, 1, VIEW_BLOCK, 101, 0));
	end(e);
}
END_TEST

/* There are more blocks than are remembered: then the oldest are asked for again. */
START_TEST(there_is_an_end_to_what_is_remembered)
{
	struct exists	*e = begin();
	int64_t		 block;
	int		 remembered = 0;

	for (block = 1; block <= 6000; block++) {
		struct heard h = { .times = 0 };

		ask(e, &h, 1, VIEW_BLOCK, block, 5000);
		answer(asked[--nasked], "t", "");
	}
	for (block = 1; block <= 6000; block++)
		remembered += known(e, 1, VIEW_BLOCK, block, 0);
	ck_assert_int_le(remembered, 4096);
	ck_assert(remembered > 4000 && known(e, 1, VIEW_BLOCK, 6000, 0) && !known(e, 1, VIEW_BLOCK, 1, 0));
	end(e);
}
END_TEST

START_TEST(who_comes_after_the_answer_asks_again)
{
	struct exists	*e = begin();
	struct heard	 first = { .times = 0 }, second = { .times = 0 };

	ask(e, &first, 1, VIEW_BLOCK, 101, 5000);
	answer(asked[0], "f", "");
	ask(e, &second, 1, VIEW_BLOCK, 101, 5000);
	ck_assert_uint_eq(nasked, 2);
	answer(asked[1], "t", "");
	ck_assert(first.answer == EXISTS_NO && second.answer == EXISTS_YES);
	end(e);
}
END_TEST

START_TEST(without_a_database_it_is_asked_on_until_patience_ends)
{
	struct exists	*e = begin();
	struct heard	 hasty = { .times = 0 }, patient = { .times = 0 };

	ask(e, &patient, 1, VIEW_BLOCK, 101, 100000);
	ask(e, &hasty, 1, VIEW_BLOCK, 101, 10);
	answer(asked[0], NULL, "");
	ck_assert_uint_eq(nasked, 2);			/* the same query, again */
	ck_assert_ptr_eq(asked[0], asked[1]);
	while (hasty.times == 0)
		ev_run(loop, EVRUN_ONCE);
	ck_assert(hasty.answer == EXISTS_UNKNOWN && patient.times == 0 && ncomplaints == 0);
	answer(asked[1], "t", "");
	ck_assert(patient.times == 1 && patient.answer == EXISTS_YES && hasty.times == 1);
	end(e);
}
END_TEST

START_TEST(who_leaves_is_not_told_and_the_last_takes_the_question_along)
{
	struct exists	*e = begin();
	struct heard	 a = { .times = 0 }, b = { .times = 0 };

	ask(e, &a, 1, VIEW_BLOCK, 101, 5000);
	ask(e, &b, 1, VIEW_BLOCK, 101, 5000);
	exists_forget(&a.asker);
	exists_forget(&a.asker);
	ck_assert_uint_eq(ncancelled, 0);
	exists_forget(&b.asker);
	ck_assert_uint_eq(ncancelled, 1);
	ck_assert(a.times == 0 && b.times == 0);
	end(e);
}
END_TEST

START_TEST(one_that_hears_may_make_others_leave)
{
	struct exists	*e = begin();
	struct heard	 a = { .times = 0 }, b = { .times = 0 }, c = { .times = 0 };

	a.forgets = &b;
	b.forgets = NULL;
	c.forgets = NULL;
	ask(e, &a, 1, VIEW_BLOCK, 101, 5000);
	ask(e, &b, 1, VIEW_BLOCK, 101, 5000);
	answer(asked[0], "t", "");
	ck_assert(a.times == 1 && b.times == 0);
	ask(e, &c, 1, VIEW_BLOCK, 101, 5000);
	answer(asked[1], "t", "");
	ck_assert_int_eq(c.times, 1);
	end(e);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("exists");
	TCase	*tc = unit_case(s, "exists");

	tcase_add_test(tc, one_question_for_all);
	tcase_add_test(tc, an_answer_is_good_for_a_while);
	tcase_add_test(tc, there_is_an_end_to_what_is_remembered);
	tcase_add_test(tc, who_comes_after_the_answer_asks_again);
	tcase_add_test(tc, without_a_database_it_is_asked_on_until_patience_ends);
	tcase_add_test(tc, who_leaves_is_not_told_and_the_last_takes_the_question_along);
	tcase_add_test(tc, one_that_hears_may_make_others_leave);
	return (unit_main(s));
}
