/* SPDX-License-Identifier: ISC */
/*
 * What a story is about, what happens in it, and the words for it.
 *
 * A seed decides the surroundings first (how many seats, which options, how much goes
 * wrong), then the actions: each at a random time, of a random kind by its
 * weight.  Some kinds are played up or down in a story, so that stories differ.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "sim.h"

struct setup	 setup;

static const struct {
	const char	*name;
	int		 weight;
	bool		 fault;
	const char	*words;
} kinds[A__MAX] = {
#define ACTION(NAME, weight, fault, words)	{ #NAME, weight, fault, words },
#include "actions_tbl.h"
#undef ACTION
};

bool
action_is_fault(enum action_kind k)
{
	return (kinds[k].fault);
}

const char *
action_name(enum action_kind k)
{
	return (kinds[k].name);
}

static uint64_t	 state;

static int64_t
between(int64_t low, int64_t high)
{
	uint64_t x = state += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	x ^= x >> 31;
	return (low + (int64_t)(x % (uint64_t)(high - low + 1)));
}

static int64_t
one_of(const int64_t *list, size_t n)
{
	return (list[between(0, (int64_t)n - 1)]);
}
#define ONE_OF(...)	one_of((const int64_t[]){ __VA_ARGS__ }, nitems(((const int64_t[]){ __VA_ARGS__ })))

void
story_setup(uint64_t seed, int64_t length_us)
{
	static const struct opts defaults = {
#define OPT(field, name, TYPE, def, min, max, metavar, text)	.field = def,
#include "base/opts_tbl.h"
#undef OPT
	};

	state = seed * 0x2545f4914f6cdd1du + 99;
	setup = (struct setup){ .seed = seed, .length_us = length_us, .opts = defaults };
	setup.nseats = (int)ONE_OF(3, 10, 30, 30, 120, 400);
	setup.match = between(0, 2) == 0;
	setup.nblocks = setup.match ? (int)ONE_OF(2, 3, 5) : 1;
	setup.gentle = between(0, 3) == 0;
	setup.opts.poll_interval_ms = (long)ONE_OF(1000, 1000, 1000, 200, 3000);
	setup.opts.reconcile_interval_ms = (long)ONE_OF(10000, 10000, 3000, 60000);
	setup.opts.linger_ms = (long)ONE_OF(30000, 1000);
	setup.opts.heartbeat_ms = (long)ONE_OF(15000, 5000);
	setup.opts.stall_timeout_ms = (long)ONE_OF(60000, 20000);
}

/* What the numbers of an action may be. */
static void
fill(struct action *a)
{
	a->who = (int)between(0, 1);
	switch (a->kind) {
	case A_BEGIN: case A_SAVEPOINT: case A_ROLLBACK_TO: case A_COMMIT: case A_ROLLBACK: case A_PREPARE: case A_TAKE_ID:
		a->who = (int)between(0, WRITERS - 1);
		break;
	case A_SET:
		a->who = (int)between(0, WRITERS - 1);
		a->a = (int)(between(0, 9) < 8 ? between(1, 3) : between(1, setup.nseats));
		a->b = (int)between(0, setup.nseats - 1);
		a->c = (int)ONE_OF(AVAILABLE, HOLD, HOLD, OCCUPIED, OCCUPIED, ODD) + 10 * (int)ONE_OF(0, 1, 1, 2, 5, 30, 300);
		break;
	case A_DELETE:
		a->who = (int)between(0, WRITERS - 1);
		a->a = (int)between(1, 3);
		a->b = (int)between(0, setup.nseats - 1);
		break;
	case A_REWRITE:
		a->a = (int)between(0, 1);
		break;
	case A_SEAT:
		a->a = (int)between(0, setup.nseats - 1);
		break;
	case A_STEP:
		a->a = (int)ONE_OF(-3600000, 3600000, -5000, -4000, -3000, 5000, -700, 700);
		break;
	case A_DOWN: case A_FREEZE:
		a->a = (int)ONE_OF(300, 2000, 4500, 20000);
		break;
	case A_SLOW:
		a->a = (int)ONE_OF(50, 300, 900, 2500);
		a->b = (int)ONE_OF(2000, 15000);
		break;
	case A_ERRORS:
		a->a = (int)between(1, 6);
		a->b = (int)between(0, 2);
		break;
	case A_ODD_ANSWERS:
		a->a = (int)between(1, 3);
		a->b = (int)between(0, 4);
		break;
	case A_FAILOVER:
		a->a = (int)ONE_OF(0, 500, 5000, 60000);
		a->b = (int)ONE_OF(200, 3000, 10000);
		break;
	case A_STANDBY:
		a->a = (int)ONE_OF(0, 300, 4000, 30000);
		a->b = (int)ONE_OF(3000, 30000);
		break;
	case A_SILENT_FAILOVER:
		a->a = (int)ONE_OF(0, 500, 5000, 60000);
		break;
	case A_COME:
		a->who = (int)between(0, BROWSERS - 3);
		a->a = (int)between(0, 1) | (int)ONE_OF(0, 0, 0, 0, 2, 4, 8, 16, 32);
		a->b = (int)between(0, 31);
		break;
	case A_GO:
		a->who = (int)between(0, BROWSERS - 3);
		a->a = (int)between(0, 2);
		break;
	case A_NET:
		a->who = (int)between(0, BROWSERS - 3);
		a->a = (int)ONE_OF(NET_OPEN, NET_OPEN, NET_OPEN, NET_SLOW, NET_SHUT, NET_BUFFER);
		a->b = (int)ONE_OF(0, 1, 50, 400, 3000, 5000);
		break;
	case A_CUT:
		a->who = (int)between(0, BROWSERS - 3);
		a->a = (int)(between(0, 2) == 0 ? between(0, 20000) : between(0, 700));
		break;
	case A_SNAPSHOT:
		a->who = BROWSERS - 2;
		a->a = (int)between(0, 1);
		break;
	case A_CHANGES:
		a->who = BROWSERS - 1;
		break;
	case A_STALL:
		a->a = (int)ONE_OF(5, 60, 700, 4000);
		break;
	case A_DRAIN:
		a->a = (int)ONE_OF(0, 1000, 5000);
		break;
	default:
		break;
	}
}

static int
by_time(const void *va, const void *vb)
{
	const struct action *a = va, *b = vb;

	return (a->at_us != b->at_us ? (a->at_us < b->at_us ? -1 : 1) : 0);
}

void
story_make(struct story *s)
{
	int	 weight[A__MAX], total = 0;
	int64_t	 gap_us = ONE_OF(300, 1000, 1000, 3000) * MS, at = 0;
	size_t	 cap = (size_t)(setup.length_us / gap_us) * 4 + 64;

	state ^= 0x5eed;
	for (int k = 0; k < A__MAX; k++) {
		weight[k] = kinds[k].weight * 10;
		if (setup.gentle && kinds[k].fault && k != A_NET && k != A_CUT && k != A_TAKE_ID && k != A_ROLLBACK_TO &&
		    k != A_ROLLBACK && k != A_PREPARE)
			weight[k] = 0;
		else if (between(0, 3) == 0)
			weight[k] = weight[k] * (int)ONE_OF(0, 1, 30) / 10;	/* not at all, seldom, often */
		if ((k == A_COME || k == A_SET || k == A_COMMIT) && weight[k] < kinds[k].weight * 10)
			weight[k] = kinds[k].weight * 10;
		total += weight[k];
	}
	if ((s->actions = calloc(cap, sizeof(*s->actions))) == NULL)
		err(2, "calloc");
	while (s->count < cap && (at += between(0, 2 * gap_us)) < setup.length_us) {
		struct action	*a = &s->actions[s->count++];
		int64_t		 pick = between(0, total - 1);
		int		 k;

		for (k = 0; pick >= weight[k]; k++)
			pick -= weight[k];
		a->at_us = at;
		a->kind = (enum action_kind)k;
		fill(a);
	}
	qsort(s->actions, s->count, sizeof(*s->actions), by_time);
}

void
story_say(const struct action *a, char *out, size_t size)
{
	char words[128];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
	snprintf(words, sizeof(words), kinds[a->kind].words, a->who, a->a, a->b, a->c);
#pragma GCC diagnostic pop
	snprintf(out, size, "%10.3f s  %s", (double)a->at_us / 1e6, words);
}

void
story_act(const struct action *a)
{
	switch (a->kind) {
	case A_BEGIN:		database_begin(a->who); break;
	case A_SET:		database_set(a->who, a->b, a->a, (enum status)(a->c % 10), a->c / 10 * 1000); break;
	case A_SAVEPOINT:	database_savepoint(a->who); break;
	case A_ROLLBACK_TO:	database_rollback_to(a->who); break;
	case A_COMMIT:		database_end(a->who, COMMIT); break;
	case A_ROLLBACK:	database_end(a->who, ROLLBACK); break;
	case A_PREPARE:		database_end(a->who, PREPARE); break;
	case A_TAKE_ID:		database_take_id(a->who); break;
	case A_DELETE:
		for (int i = 0; i < a->a; i++)
			database_delete(a->who, (a->b + i) % setup.nseats);
		break;
	case A_REWRITE:		database_rewrite(a->a); break;
	case A_SEAT:		database_seat(a->a, database_row(a->a) == NULL); break;
	case A_STEP:		database_step(a->a); break;
	case A_DOWN:		database_down(a->a * MS); break;
	case A_FREEZE:		database_freeze(a->a * MS); break;
	case A_CUT_DB:		database_cut(); break;
	case A_SLOW:		database_slow(a->a * MS, a->b * MS); break;
	case A_ERRORS:		database_errors(a->a, a->b); break;
	case A_ODD_ANSWERS:	database_odd_answers(a->a, a->b); break;
	case A_FAILOVER:	database_failover(a->a * MS, a->b * MS, false); break;
	case A_SILENT_FAILOVER:	database_failover(a->a * MS, 0, true); break;
	case A_STANDBY:		database_standby(a->a * MS, a->b * MS); break;
	case A_COME:		browser_come(a->who, a->a, a->b); break;
	case A_GO:		browser_go(a->who, a->a); break;
	case A_NET:		browser_net(a->who, (enum net)a->a, a->b); break;
	case A_CUT:		browser_cut(a->who, a->a); break;
	case A_SNAPSHOT:	browser_snapshot(a->who, a->a); break;
	case A_CHANGES:		browser_changes(a->who); break;
	case A_WROTE:		master_wrote(); break;
	case A_STALL:		world_stall(a->a * MS); break;
	case A_CRASH:		world_crash(); break;
	case A_DRAIN:		master_drain(a->a); break;
	case A__MAX:		break;
	}
}
