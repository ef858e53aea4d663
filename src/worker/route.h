/* SPDX-License-Identifier: ISC */
/*
 * route - from method and path to an action: the URL table of SPEC 1.
 *
 * One row of the table per path: its pattern, its methods, its action.  Adding
 * a path is adding a row here and an action to the worker's table.
 * Runs in: worker.  Pure: no descriptor, no clock, no log; allocates nothing.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum route_action {
	ROUTE_STREAM, ROUTE_SNAPSHOT, ROUTE_CHANGES,		/* a block's */
	ROUTE_MATCH_STREAM, ROUTE_COUNTS,			/* a match's */
	ROUTE_MATCHES, ROUTE_STADIUM, ROUTE_AREAS, ROUTE_SECTIONS, ROUTE_BLOCKS, ROUTE_SEATS,
	ROUTE_HOLD, ROUTE_RELEASE,				/* one seat, in the path */
	ROUTE_HOLD_SEATS, ROUTE_RELEASE_SEATS, ROUTE_CONFIRM,	/* those in the body */
	ROUTE_CHANGED,
	ROUTE_HEALTHZ, ROUTE_READYZ, ROUTE_METRICS, ROUTE_STATUS
};

#define ROUTE_MAX_IDS	2

struct route {
	enum route_action action;
	int64_t		 ids[ROUTE_MAX_IDS];	/* in the order of the path; 1 … INT64_MAX */
	bool		 head;			/* HEAD: answer as GET, without the body */
	const char	*allow;			/* 405: value of the Allow header, static */
};

/*
 * Find what method and path ask for.  path is decoded or not (see
 * route_path), starts with '/', carries no query.
 * Returns 200 with all of *route_r set, 404 unknown path, 405 wrong method
 * (route_r->allow set), 400 malformed id.  In this order: an unknown path is
 * 404 whatever the method, a known one with the wrong method 405 whatever the ids.
 */
int	route_find(const char *method, const char *path, struct route *route_r);

/*
 * The path to route on: SCRIPT_NAME + PATH_INFO when that is not empty (the web
 * server has decoded it), else REQUEST_URI without its query (and without
 * scheme and host if it is absolute), percent-decoded.  Any may be NULL.
 * 0; -1 when there is none, it is longer than size - 1, has a bad escape, or
 * decodes to a NUL or control byte (EINVAL): 400.
 */
int	route_path(const char *script_name, const char *path_info, const char *request_uri,
	    char *path_r, size_t size);

/* An id of SPEC 1: decimal, 1 … 9223372036854775807, no sign, space or leading zero, len bytes.  0 or -1. */
int	route_id(const char *text, size_t len, int64_t *id_r);

/*
 * The value of a query parameter, percent-decoded ('+' is a space).  The first one of that name
 * counts.  0; -1: ENOENT when absent, EINVAL when badly escaped, decoding to NUL, or longer than size - 1.
 */
int	route_query(const char *query, const char *name, char *value_r, size_t size);

#endif
