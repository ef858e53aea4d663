/* SPDX-License-Identifier: ISC */
/*
 * evloop: libev goes on through a moment without memory, which it would not survive.
 */
#include <errno.h>
#include <stdio.h>

#include "base/evloop.h"
#include "unit.h"

static unsigned	 refused;		/* so many allocations from now on */

void	*__real_realloc(void *p, size_t size);
void	*__wrap_realloc(void *p, size_t size);

void *
__wrap_realloc(void *p, size_t size)
{
	if (refused > 0) {
		refused--;
		errno = ENOMEM;
		return (NULL);
	}
	return (__real_realloc(p, size));
}

static void
on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)revents;
	++*(int *)w->data;
}

/* n timers ring, of which each was started with so many allocations to be refused. */
static void
all_ring(int n, unsigned refusals)
{
	static ev_timer	 timers[10000];
	struct ev_loop	*ev = evloop_new();
	int		 rung = 0, i;

	ck_assert_int_le(n, (int)nitems(timers));
	for (i = 0; i < n; i++) {
		refused = refusals;	/* whenever the heap of timers grows */
		ev_timer_init(&timers[i], on_timer, 0., 0.);
		timers[i].data = &rung;
		ev_timer_start(ev, &timers[i]);
	}
	refused = 0;
	ev_run(ev, 0);
	ck_assert_int_eq(rung, n);
	ev_loop_destroy(ev);
}

START_TEST(a_moment_without_memory_is_survived)
{
	all_ring(10000, 1);
}
END_TEST

/* What was laid by is used as it is: a second allocation is refused like the first. */
START_TEST(what_was_laid_by_is_enough)
{
	all_ring(2000, 2);
}
END_TEST

START_TEST(a_long_time_without_is_the_end)
{
	static ev_timer	 timers[10000];
	struct ev_loop	*ev = evloop_new();
	size_t		 i;

	refused = 1000;
	for (i = 0; i < nitems(timers); i++) {
		ev_timer_init(&timers[i], on_timer, 0., 0.);
		ev_timer_start(ev, &timers[i]);
	}
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("evloop");
	TCase	*tc = unit_case(s, "evloop");

	tcase_add_test(tc, a_moment_without_memory_is_survived);
	tcase_add_test(tc, what_was_laid_by_is_enough);
	if (getenv("CK_FORK") == NULL)		/* it ends its process */
		tcase_add_exit_test(tc, a_long_time_without_is_the_end, 1);
	return (unit_main(s));
}
