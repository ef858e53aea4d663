/* SPDX-License-Identifier: ISC */
/*
 * body - the JSON of an allocation request: {"userId":7,"seatIds":[101,102]}.
 *
 * One object with these members and no others, each at most once, in the strict
 * syntax of RFC 8259; ids are integers as written, 1 to 9223372036854775807.  So
 * little of JSON is read here without a library, and without memory: a good body
 * is never refused for want of it, and no two readers differ about one.
 * Runs in: worker.  Pure: no descriptor, no clock, no log; allocates nothing.
 */
#ifndef BODY_H
#define BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BODY_MAX_SEATS	1000	/* opts_tbl.h: --max-seats */

struct body {
	bool	has_user, has_seats;
	int64_t	user_id;
	size_t	nseats;			/* as many as there are, even if more than fit below */
	int64_t	seats[BODY_MAX_SEATS];	/* in the order given; all different */
};

/* NULL: fine.  Else what is wrong with it, static text for a person. */
const char	*body_parse(const char *text, size_t len, struct body *body_r);

#endif
