/* SPDX-License-Identifier: ISC */
/*
 * body: the JSON of an allocation request, to the byte; nothing else passes.
 */
#include <stdint.h>
#include <string.h>

#include "unit.h"
#include "worker/body.h"

static const struct {
	const char	*says, *text;
	int64_t		 user;			/* 0: none; -1: refused */
	size_t		 nseats;
} cases[] = {
	{ "a user", "{\"userId\":7}", 7, 0 },
	{ "white space", " {\r\n\t\"userId\" : 7 } \n", 7, 0 },
	{ "the greatest id", "{\"userId\":9223372036854775807}", INT64_MAX, 0 },
	{ "seats", "{\"seatIds\":[3,1,2]}", 0, 3 },
	{ "both, with space", "{ \"seatIds\" : [ 3 , 1 ] , \"userId\" : 7 }", 7, 2 },
	{ "nothing", "{}", 0, 0 },
	{ "an escaped name is the same name", "{\"\\u0075serId\":7}", 7, 0 },
	{ "in upper case too", "{\"user\\u0049d\":7,\"seat\\u0049\\u0064s\":[1]}", 7, 1 },
	{ "a NUL behind a name makes another", "{\"userId\\u0000\":7}", -1, 0 },
	{ "and more behind that", "{\"userId\\u0000x\":7}", -1, 0 },
	{ "a longer name is another", "{\"userIds\":7}", -1, 0 },
	{ "a very long one too", "{\"userIduserIduserIduserIduserIduserId\":7}", -1, 0 },
	{ "a letter that is no ASCII", "{\"user\\u0149d\":7}", -1, 0 },
	{ "twice", "{\"userId\":7,\"userId\":7}", -1, 0 },
	{ "twice, once escaped", "{\"userId\":7,\"\\u0075serId\":7}", -1, 0 },
	{ "seats twice", "{\"seatIds\":[1],\"seatIds\":[2]}", -1, 0 },
	{ "a seat twice", "{\"seatIds\":[1,2,1]}", -1, 0 },
	{ "no seats", "{\"seatIds\":[]}", -1, 0 },
	{ "a comma too many", "{\"seatIds\":[1,]}", -1, 0 },
	{ "a comma too few", "{\"seatIds\":[1 2]}", -1, 0 },
	{ "not closed", "{\"seatIds\":[1}", -1, 0 },
	{ "cut", "{\"userId\":7", -1, 0 },
	{ "cut in a name", "{\"userI", -1, 0 },
	{ "cut in an escape", "{\"\\u00", -1, 0 },
	{ "a bad escape", "{\"\\x75serId\":7}", -1, 0 },
	{ "more behind it", "{\"userId\":7}x", -1, 0 },
	{ "a fraction", "{\"userId\":7.0}", -1, 0 },
	{ "an exponent", "{\"userId\":7e0}", -1, 0 },
	{ "a fraction among seats", "{\"seatIds\":[1.5]}", -1, 0 },
	{ "a sign", "{\"userId\":-7}", -1, 0 },
	{ "zero", "{\"userId\":0}", -1, 0 },
	{ "a leading zero", "{\"userId\":07}", -1, 0 },
	{ "one too great", "{\"userId\":9223372036854775808}", -1, 0 },
	{ "a string", "{\"userId\":\"7\"}", -1, 0 },
	{ "another member", "{\"userId\":7,\"x\":1}", -1, 0 },
	{ "an array", "[7]", -1, 0 },
	{ "nothing at all", "", -1, 0 },
	{ "a comma for nothing", "{,}", -1, 0 },
	{ "a comma before the end", "{\"userId\":7,}", -1, 0 },
	{ "single quotes", "{'userId':7}", -1, 0 },
	{ "a control byte in a name", "{\"user\nId\":7}", -1, 0 },
};

START_TEST(bodies)
{
	const char	*says = cases[_i].says, *wrong;
	struct body	 b;

	memset(&b, 0xff, sizeof(b));
	wrong = body_parse(cases[_i].text, strlen(cases[_i].text), &b);
	ck_assert_msg((wrong != NULL) == (cases[_i].user == -1), "%s: %s", says, wrong != NULL ? wrong : "fine");
	if (wrong != NULL)
		return;
	ck_assert_msg(b.has_user == (cases[_i].user > 0) && (!b.has_user || b.user_id == cases[_i].user), "%s: the user", says);
	ck_assert_msg(b.nseats == cases[_i].nseats && b.has_seats == (b.nseats > 0), "%s: %zu seats", says, b.nseats);
}
END_TEST

START_TEST(seats_stay_in_their_order)
{
	static const char	 text[] = "{\"userId\":7,\"seatIds\":[3,1,2]}";
	struct body		 b;

	ck_assert_ptr_null(body_parse(text, sizeof(text) - 1, &b));
	ck_assert(b.seats[0] == 3 && b.seats[1] == 1 && b.seats[2] == 2);
}
END_TEST

START_TEST(more_seats_than_fit_are_counted)
{
	char		 text[16 * 1024];
	size_t		 len = 0;
	int		 i;
	struct body	 b;

	len += (size_t)snprintf(text, sizeof(text), "{\"seatIds\":[1");
	for (i = 2; i <= BODY_MAX_SEATS + 5; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, ",%d", i);
	len += (size_t)snprintf(text + len, sizeof(text) - len, "]}");
	ck_assert_ptr_null(body_parse(text, len, &b));
	ck_assert_uint_eq(b.nseats, BODY_MAX_SEATS + 5);
}
END_TEST

/* What is not there is not read: each beginning of a good body, in memory of its exact size. */
START_TEST(no_beginning_of_a_body_is_one)
{
	static const char	 text[] = "{\"userId\":7,\"seat\\u0049ds\":[3,1,2]}";
	struct body		 b;
	char			*exact;
	size_t			 n;

	for (n = 0; n < sizeof(text) - 1; n++) {
		exact = malloc(n > 0 ? n : 1);
		ck_assert_ptr_nonnull(exact);
		memcpy(exact, text, n);
		ck_assert_ptr_nonnull(body_parse(exact, n, &b));
		free(exact);
	}
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("body");
	TCase	*tc = unit_case(s, "bodies");

	unit_rows(tc, bodies, cases);
	tcase_add_test(tc, seats_stay_in_their_order);
	tcase_add_test(tc, more_seats_than_fit_are_counted);
	tcase_add_test(tc, no_beginning_of_a_body_is_one);
	return (unit_main(s));
}
