/* SPDX-License-Identifier: ISC */
/*
 * port - the port functions of a group (seatcast-sql(7)): what a poll asks, and
 * what the answer says, as rows of seats.
 *
 * A block and a whole match differ here, in two rows of a table, and nowhere in
 * the poll: each row of an answer names its block, and has one seat, or arrays of
 * many where all are asked for.
 * Answers come in PostgreSQL's binary format: an id is 8 bytes, and nobody formats
 * and parses it twice a poll.
 * Runs in: loop.  Pure: no descriptor, no clock.  Logs a word that it does not
 * know, once.
 * Source: PostgreSQL documentation, 34.3.1 (PQexecParams: resultFormat), 8.5 (timestamptz);
 * src/backend/utils/adt/arrayfuncs.c (array_send).
 */
#ifndef PORT_H
#define PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop/seat.h"
#include "shared/db.h"
#include "shared/group.h"

/* The parts of one poll, both of one database snapshot; as bits. */
enum port_part {
	PORT_CHANGES = 1,	/* what was written since the cursor */
	PORT_SNAPSHOT = 2	/* the whole group */
};

struct port {
	char		 match[24], block[24];	/* parameters */
	bool		 whole_match;
	bool		 odd_status;		/* warned about a status we don't know */
	bool		 odd_id;		/* warned about a seat that can't be */
	struct seat_row	*rows;			/* scratch of port_rows */
	size_t		 cap;
};

void		 port_init(struct port *p, const struct group_key *key);
void		 port_fini(struct port *p);

/* Fill in statement and parameters; cursor is needed for PORT_CHANGES and stays the caller's. */
void		 port_ask(const struct port *p, struct db_query *q, int parts, const char *cursor);

/* The mark of an answer: the next cursor (inside r) and the database's time.  NULL, or what is wrong with the answer. */
const char	*port_mark(const PGresult *r, const char **cursor_r, int64_t *as_of_ms_r);

/* The seats of one part of an answer that has a mark, into p->rows.  Their number, or -1: ENOMEM. */
ssize_t		 port_rows(struct port *p, const PGresult *r, enum port_part part);

#endif
