/* SPDX-License-Identifier: ISC */
/*
 * unit - what every unit test program shares.
 *
 * A program is one file for one module of src: tables of cases whose first
 * column `says` is the rule as a sentence, a loop test per table, and
 *	int main(void) { Suite *s = ...; return (unit_main(s)); }
 * Random tests are loop tests too: their index, plus UNIT_SEED from the
 * environment, is the seed, so a failing one can be run again.
 */
#ifndef UNIT_H
#define UNIT_H

#include <stdint.h>
#include <stdlib.h>

#include <check.h>

#include "base/must.h"

/* Run test once for each row of a table; _i is the row. */
#define unit_rows(tc, test, table)	tcase_add_loop_test((tc), (test), 0, (int)nitems(table))

/* Two pieces of bytes that should be the same text; says is the rule. */
#define unit_same_bytes(says, got, got_len, want, want_len)		\
	ck_assert_msg((got_len) == (want_len) &&			\
	    ((want_len) == 0 || memcmp((got), (want), (want_len)) == 0),	\
	    "%s: got \"%.*s\", not \"%.*s\"", (says), (int)(got_len),	\
	    (const char *)(got), (int)(want_len), (const char *)(want))

static inline TCase *
unit_case(Suite *s, const char *name)
{
	TCase	*tc = tcase_create(name);

	tcase_set_timeout(tc, 120);	/* valgrind on a busy machine */
	suite_add_tcase(s, tc);
	return (tc);
}

static inline int
unit_main(Suite *s)
{
	SRunner	*sr = srunner_create(s);
	int	 failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return (failed == 0 ? 0 : 1);
}

/* The seed of loop test i. */
static inline uint64_t
unit_seed(int i)
{
	const char	*base = getenv("UNIT_SEED");

	return ((base != NULL ? strtoull(base, NULL, 10) : 0) + (uint64_t)i);
}

/* splitmix64: any seed will do, also 0.  Below n (> 0). */
static inline uint64_t
unit_random(uint64_t *state, uint64_t n)
{
	uint64_t	 z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return ((z ^ (z >> 31)) % n);
}

#endif
