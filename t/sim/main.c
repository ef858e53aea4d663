/* SPDX-License-Identifier: ISC */
/*
 * sim - stories of one loop, played without a machine: each from a seed, in a process
 * of its own; a story that breaks a promise is shrunk to what matters, and told.
 *
 *	sim [--seeds FIRST-LAST] [--seconds N] [--plant NAME] [--jobs N]
 *	sim --seed N [--seconds N] [--verbose] [--whole]
 *
 * Speaks TAP.  The same seed and length are the same story, always.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/must.h"
#include "sim.h"

#define SHRINK_SECONDS	40

struct tally	*tally;
bool		 verbose;

/* What a story left behind in the memory that its process shares with us. */
struct outcome {
	struct tally	 tally;
	bool		 broken;
	int64_t		 at_us;
	char		 rule[32], why[512];
};
static struct outcome	*outcome;
static struct tally	 sums;

void
say(const char *fmt, ...)
{
	va_list ap;

	if (!verbose)
		return;
	printf("# %10.3f s  ", (double)world_story_us() / 1e6);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void
broken(const char *rule, const char *fmt, ...)
{
	va_list ap;

	outcome->broken = true;
	outcome->at_us = world_story_us();
	snprintf(outcome->rule, sizeof(outcome->rule), "%s", rule);
	va_start(ap, fmt);
	vsnprintf(outcome->why, sizeof(outcome->why), fmt, ap);
	va_end(ap);
	fflush(stdout);
	_exit(1);
}

/* Play it in a process of its own.  true: it kept all promises. */
static bool
play(const struct story *s, bool quiet)
{
	int	 status;
	pid_t	 pid;

	memset(outcome, 0, sizeof(*outcome));
	fflush(NULL);
	if ((pid = fork()) == -1)
		err(2, "fork");
	if (pid == 0) {
		tally = &outcome->tally;
		if (quiet && freopen("/dev/null", "w", stderr) == NULL)
			_exit(2);
		world_play(s);
	}
	if (waitpid(pid, &status, 0) != pid)
		err(2, "waitpid");
	if (!outcome->broken && status != 0) {
		outcome->broken = true;
		snprintf(outcome->rule, sizeof(outcome->rule), "crash");
		snprintf(outcome->why, sizeof(outcome->why), "the process ended with %s %d (an abort is a must() of the program)",
		    WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	}
	return (!outcome->broken);
}

/* Without actions [from, from + n): does it still break the same rule? */
static bool
breaks_without(const struct story *s, size_t from, size_t n, const char *rule)
{
	struct story	less = { malloc((s->count + 1) * sizeof(*s->actions)), s->count - n };
	bool		same;

	must(less.actions != NULL);
	memcpy(less.actions, s->actions, from * sizeof(*s->actions));
	memcpy(less.actions + from, s->actions + from + n, (s->count - from - n) * sizeof(*s->actions));
	same = !play(&less, true) && strcmp(outcome->rule, rule) == 0;
	free(less.actions);
	return (same);
}

/* Leave out what does not matter: half of it, a quarter of it, … one by one. */
static void
shrink(struct story *s, const char *rule)
{
	time_t		until = time(NULL) + SHRINK_SECONDS;
	size_t		n, from;
	bool		any = true;
	int64_t		seed_length = setup.length_us;

	while (s->count > 0 && s->actions[s->count - 1].at_us > outcome->at_us && outcome->at_us != 0)
		s->count--;
	(void)seed_length;
	for (n = s->count / 2 > 0 ? s->count / 2 : 1; time(NULL) < until && (n > 1 || any); n = n > 1 ? n / 2 : 1) {
		any = false;
		for (from = 0; from + n <= s->count && time(NULL) < until;) {
			if (breaks_without(s, from, n, rule)) {
				memmove(s->actions + from, s->actions + from + n, (s->count - from - n) * sizeof(*s->actions));
				s->count -= n;
				any = true;
			} else
				from += n;
		}
	}
}

static void
tell(struct story *s, bool whole)
{
	char	rule[32], words[160];
	size_t	before = s->count;

	snprintf(rule, sizeof(rule), "%s", outcome->rule);
	printf("# %s, at %.3f s: %s\n", outcome->rule, (double)outcome->at_us / 1e6, outcome->why);
	if (whole)
		return;
	shrink(s, rule);
	verbose = false;
	(void)play(s, true);
	printf("# the story, of %zu actions shrunk to %zu: %d seats in %d blocks%s, a poll every %ld ms\n", before, s->count,
	    setup.nseats, setup.nblocks, setup.match ? ", the stream of a match" : "", setup.opts.poll_interval_ms);
	for (size_t i = 0; i < s->count; i++) {
		story_say(&s->actions[i], words, sizeof(words));
		printf("# %s\n", words);
	}
	printf("# %10.3f s  %s: %s\n", (double)outcome->at_us / 1e6, outcome->rule, outcome->why);
	fflush(stdout);
}

static void
add_up(void)
{
	int64_t		*to = (int64_t *)&sums;
	const int64_t	*from = (const int64_t *)&outcome->tally;

	for (size_t i = 0; i < sizeof(sums) / sizeof(int64_t); i++)
		to[i] += from[i];
}

static void
report(int64_t seconds, double took)
{
	int faults = 0;

	for (int k = 0; k < A__MAX; k++)
		faults += action_is_fault((enum action_kind)k) && sums.done[k] > 0;
	printf("# %lld simulated seconds in %.1f s; %d kinds of faults; polls %lld, events %lld (%lld inits, %lld counts), connections %lld,\n"
	    "# resumed %lld, conflated %lld, snapshots %lld (%lld not modified), comparisons %lld\n", (long long)seconds, took, faults,
	    (long long)sums.polls, (long long)sums.events, (long long)sums.inits, (long long)sums.counts,
	    (long long)sums.connections, (long long)sums.resumes, (long long)sums.passes, (long long)sums.snapshots,
	    (long long)sums.etags, (long long)sums.checks);
	printf("#");
	for (int k = 0; k < A__MAX; k++)
		printf(" %s %lld", action_name((enum action_kind)k), (long long)sums.done[k]);
	printf("\n");
}

static void
usage(void)
{
	fprintf(stderr, "usage: sim [--seed N | --seeds FIRST-LAST] [--seconds N] [--plant NAME] [--verbose] [--whole] [--until-broken]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	unsigned long long	 first = 1, last = 0, seed;
	long			 seconds = 2000;
	bool			 whole = false, hunt = false;
	int			 failed = 0, n = 0;
	struct timespec		 began, ended;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--verbose") == 0)
			verbose = whole = true;
		else if (strcmp(argv[i], "--whole") == 0)
			whole = true;
		else if (strcmp(argv[i], "--until-broken") == 0)
			hunt = true;
		else if (i + 1 == argc)
			usage();
		else if (strcmp(argv[i], "--seed") == 0)
			first = last = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seeds") == 0) {
			if (sscanf(argv[++i], "%llu-%llu", &first, &last) != 2)
				usage();
		} else if (strcmp(argv[i], "--seconds") == 0)
			seconds = atol(argv[++i]);
		else if (strcmp(argv[i], "--plant") != 0 || plant_parse(argv[++i]) == -1)
			usage();
	}
	if (last == 0)
		last = 500;		/* with the 2,000 s of each: a million */
	if ((outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
		err(2, "mmap");
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (seed = first; seed <= last; seed++) {
		struct story s = { NULL, 0 };
		bool kept;

		story_setup(seed, seconds * SECOND);
		story_make(&s);
		kept = play(&s, false);
		add_up();
		n++;
		if (!kept) {
			failed++;
			tell(&s, whole);
			printf("not ok %d - seed %llu (again: sim --seed %llu --seconds %ld --verbose)\n", n, seed, seed, seconds);
		} else if (verbose || last - first < 20)
			printf("ok %d - seed %llu\n", n, seed);
		else if ((seed - first) % 100 == 99 || seed == last)
			printf("# seed %llu\n", seed);
		free(s.actions);
		fflush(stdout);
		if (!kept && (hunt || failed >= 3))
			break;
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	report((int64_t)n * seconds, (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9);
	if (last - first >= 20) {
		printf("%s %d - %d stories keep the promises\n", failed == 0 ? "ok" : "not ok", n + 1, n);
		printf("1..%d\n", 1);
	} else
		printf("1..%d\n", n);
	return (failed == 0 ? 0 : 1);
}
