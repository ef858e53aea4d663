/* SPDX-License-Identifier: ISC */
/*
 * must - the invariants we hold ourselves to.
 *
 * must(expr) stays in production builds: when it fails the program is wrong,
 * not its surroundings, so this process prints where and aborts; the master
 * logs it and replaces the child.  Never for anything a peer can cause.
 */
#ifndef MUST_H
#define MUST_H

#include <stdio.h>
#include <stdlib.h>

#define must(expr) do {							\
	if (!(expr)) {							\
		fprintf(stderr, "must: %s:%d: %s\n", __FILE__, __LINE__, #expr); \
		abort();						\
	}								\
} while (0)

#define nitems(a)	(sizeof(a) / sizeof((a)[0]))

#endif
