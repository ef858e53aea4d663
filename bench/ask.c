/* SPDX-License-Identifier: ISC */
/*
 * ask - the least that a poll can cost who asks: libpq, one statement again and
 * again, and a sleep; nothing is done with the answer.
 *
 *	ask INTERVAL_MS COUNT [CONNINFO SQL [PARAMETER ...]]
 *	ask once CONNINFO SQL [PARAMETER ...]
 *
 * Without SQL it only sleeps.  Answers are in binary, as the loop asks for them.
 * Prints the microseconds of processor time for each question, of this process
 * alone (the kernel's part of it included); connecting is not counted.  once: the
 * milliseconds by the clock that connecting and the first answer take.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM	10	/* questions before it counts */

static double
clock_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return ((double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3);
}

static PGconn *
connected(const char *conninfo)
{
	PGconn *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK) {
		fprintf(stderr, "ask: %s", PQerrorMessage(conn));
		exit(1);
	}
	return (conn);
}

/* SQL and its parameters. */
static void
ask(PGconn *conn, int n, char **question)
{
	PGresult *res = PQexecParams(conn, question[0], n - 1, NULL, (const char *const *)question + 1, NULL, NULL, 1);

	if (PQresultStatus(res) != PGRES_TUPLES_OK) {
		fprintf(stderr, "ask: %s", PQerrorMessage(conn));
		exit(1);
	}
	PQclear(res);
}

static double
once_ms(const char *conninfo, int n, char **question)
{
	double	 began = clock_us(CLOCK_MONOTONIC);
	PGconn	*conn = connected(conninfo);
	double	 took;

	ask(conn, n, question);
	took = (clock_us(CLOCK_MONOTONIC) - began) / 1e3;
	PQfinish(conn);
	return (took);
}

static double
each_us(int interval_ms, int count, PGconn *conn, int n, char **question)
{
	struct timespec	 pause = { .tv_sec = interval_ms / 1000, .tv_nsec = interval_ms % 1000 * 1000000L };
	double		 began = 0;
	int		 i;

	for (i = -WARM; i < count; i++) {
		if (i == 0)
			began = clock_us(CLOCK_PROCESS_CPUTIME_ID);
		if (conn != NULL)
			ask(conn, n, question);
		nanosleep(&pause, NULL);
	}
	return ((clock_us(CLOCK_PROCESS_CPUTIME_ID) - began) / count);
}

int
main(int argc, char **argv)
{
	if (argc > 3 && strcmp(argv[1], "once") == 0)
		printf("%.1f\n", once_ms(argv[2], argc - 3, argv + 3));
	else if ((argc == 3 || argc > 4) && atoi(argv[1]) > 0 && atoi(argv[2]) > 0)
		printf("%.1f\n", each_us(atoi(argv[1]), atoi(argv[2]), argc > 3 ? connected(argv[3]) : NULL, argc - 4, argv + 4));
	else {
		fprintf(stderr, "usage: ask INTERVAL_MS COUNT [CONNINFO SQL [PARAMETER ...]]\n       ask once CONNINFO SQL [PARAMETER ...]\n");
		return (2);
	}
	return (0);
}
