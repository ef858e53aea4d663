/* SPDX-License-Identifier: ISC */
/* client: random comings and goings against a plain list of who is where. */
#include <stdio.h>
#include <string.h>

#include "master/client.h"
#include "unit.h"

#define LOOPS	4
#define CLIENTS	5
#define MOST	200
#define STEPS	3000

struct visit {
	int		 client, loop;
	uint64_t	 number;
	bool		 stream;
};

static struct clients	 clients;
static struct attendance loop[LOOPS];
static struct visit	 list[MOST];
static size_t		 n;

static const char *
name(int i)
{
	static const char *const names[CLIENTS] = { "", "10.0.0.1", "10.0.0.11", "2001:db8::1", "proxy, with a comma" };

	return (names[i]);
}

static size_t
visits(int client, int at, bool streams_only)
{
	size_t i, sum = 0;

	for (i = 0; i < n; i++)
		sum += (client == -1 || list[i].client == client) && (at == -1 || list[i].loop == at) &&
		    (list[i].stream || !streams_only);
	return (sum);
}

static int
only_at(int at)
{
	int i, only = -1;

	for (i = 0; i < CLIENTS; i++)
		if (visits(i, at, false) != 0) {
			if (only != -1)
				return (-1);
			only = i;
		}
	return (only);
}

/* Who is known and has most; its newest stream, and where that is. */
static void
compare_greediest(void)
{
	const struct client	*c;
	const struct attendance	*at;
	uint64_t		 number;
	size_t			 most = 0, i;
	int			 who;

	for (who = 1; who < CLIENTS; who++)
		most = visits(who, -1, true) > most ? visits(who, -1, true) : most;
	ck_assert_ptr_null(client_greediest(&clients, most > CLIENT_MANY ? MOST : most));
	if (most == 0)
		return;
	ck_assert_ptr_nonnull(c = client_greediest(&clients, (most > CLIENT_MANY ? CLIENT_MANY : most) - 1));
	ck_assert_uint_ge(c->streams, most > CLIENT_MANY ? CLIENT_MANY : most);
	at = client_newest(c, &number);
	for (i = 0; i < n; i++) {
		ck_assert(strcmp(name(list[i].client), c->name) != 0 || !list[i].stream || list[i].number <= number);
		ck_assert(list[i].number != number || &loop[list[i].loop] == at);
	}
}

static void
compare(void)
{
	const struct client	*c;
	size_t			 alone;
	int			 i, l;

	compare_greediest();

	ck_assert_uint_eq(clients.streams, visits(-1, -1, true));
	for (l = 0; l < LOOPS; l++) {
		ck_assert_uint_eq(client_connections(&loop[l]), visits(-1, l, false));
		c = client_only(&loop[l]);
		ck_assert_int_eq(c != NULL, only_at(l) != -1);
		ck_assert(c == NULL || strcmp(c->name, name(only_at(l))) == 0);
	}
	for (i = 0; i < CLIENTS; i++) {
		c = client_find(&clients, name(i));
		ck_assert_int_eq(c != NULL, visits(i, -1, false) != 0);
		if (c == NULL)
			continue;
		for (alone = 0, l = 0; l < LOOPS; l++)
			alone += only_at(l) == i;
		ck_assert_uint_eq(c->alone, alone);
		ck_assert_uint_eq(c->streams, visits(i, -1, true));
	}
}

static void
end_of_loop(int at)
{
	size_t i, kept = 0;

	client_all_go(&clients, &loop[at]);
	for (i = 0; i < n; i++)
		if (list[i].loop != at)
			list[kept++] = list[i];
	n = kept;
}

START_TEST(who_has_what_is_exact)
{
	uint64_t	random = unit_seed(_i), number = 0;
	struct visit	v;
	int		step, l;
	size_t		which;

	for (step = 0; step < STEPS; step++) {
		which = unit_random(&random, 100);
		if (which < 52 && n < MOST) {
			v = (struct visit){ (int)unit_random(&random, CLIENTS), (int)unit_random(&random, LOOPS), ++number,
			    unit_random(&random, 3) != 0 };
			ck_assert_int_eq(client_come(&clients, &loop[v.loop], name(v.client), v.number, v.stream), 0);
			list[n++] = v;
		} else if (which < 98 && n > 0) {
			which = unit_random(&random, n);
			v = list[which];
			client_go(&clients, &loop[v.loop], v.number);
			client_go(&clients, &loop[v.loop], v.number);	/* told twice */
			client_go(&clients, &loop[(v.loop + 1) % LOOPS], v.number);	/* not its own */
			list[which] = list[--n];
		} else if (which >= 98)
			end_of_loop((int)unit_random(&random, LOOPS));
		compare();
	}
	for (l = 0; l < LOOPS; l++)
		end_of_loop(l);
	compare();
	ck_assert_ptr_null(clients.all);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("client");
	TCase	*tc = unit_case(s, "client");

	tcase_add_loop_test(tc, who_has_what_is_exact, 0, 10);
	return (unit_main(s));
}
