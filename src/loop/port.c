/* SPDX-License-Identifier: ISC */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/must.h"
#include "loop/port.h"

#define POSTGRES_EPOCH_US	INT64_C(946684800000000)	/* 2000-01-01 in Unix time */

/* Casts and nothing else: a site's own port may have int ids and varchar words. */
#define COLUMNS		"seat_id::bigint, status::text, hold_expires_at::timestamptz, next_cursor::text, as_of::timestamptz"
#define SELECT(part, block, call) \
	"SELECT " part ", " block "::bigint, " COLUMNS " FROM seatcast." call

#define BLOCK_CHANGES	SELECT("1", "$2", "changes($1::bigint, $2::bigint, $3::text)")
#define BLOCK_SNAPSHOT	SELECT("2", "$2", "snapshot($1::bigint, $2::bigint)")
#define MATCH_CHANGES	SELECT("1", "block_id", "match_changes($1::bigint, $2::text)")
#define MATCH_SNAPSHOT	SELECT("2", "block_id", "match_snapshot($1::bigint)")

enum { COL_PART, COL_BLOCK, COL_SEAT, COL_STATUS, COL_EXPIRES, COL_CURSOR, COL_AS_OF, COLS };

/* By kind of group and parts.  Parameters in this order, as far as they are needed: match, block, cursor. */
static const char *const statements[2][4] = {
	[false] = {
		[PORT_CHANGES]			= BLOCK_CHANGES,
		[PORT_SNAPSHOT]			= BLOCK_SNAPSHOT,
		[PORT_CHANGES | PORT_SNAPSHOT]	= BLOCK_CHANGES " UNION ALL " BLOCK_SNAPSHOT,
	},
	[true] = {
		[PORT_CHANGES]			= MATCH_CHANGES,
		[PORT_SNAPSHOT]			= MATCH_SNAPSHOT,
		[PORT_CHANGES | PORT_SNAPSHOT]	= MATCH_CHANGES " UNION ALL " MATCH_SNAPSHOT,
	},
};

/* What the casts above make of each column: its length in binary, 0: text. */
static const int column_bytes[COLS] = {
	[COL_PART] = 4, [COL_BLOCK] = 8, [COL_SEAT] = 8, [COL_EXPIRES] = 8, [COL_AS_OF] = 8
};

void
port_init(struct port *p, const struct group_key *key)
{
	memset(p, 0, sizeof(*p));
	p->whole_match = key->block_id == GROUP_WHOLE_MATCH;
	snprintf(p->match, sizeof(p->match), "%lld", (long long)key->match_id);
	snprintf(p->block, sizeof(p->block), "%lld", (long long)key->block_id);
}

void
port_fini(struct port *p)
{
	free(p->rows);
	p->rows = NULL;
	p->cap = 0;
}

void
port_ask(const struct port *p, struct db_query *q, int parts, const char *cursor)
{
	must(parts > 0 && parts < 4 && (cursor != NULL || !(parts & PORT_CHANGES)));
	q->sql = statements[p->whole_match][parts];
	q->nparams = 0;
	q->params[q->nparams++] = p->match;
	if (!p->whole_match)
		q->params[q->nparams++] = p->block;
	if (parts & PORT_CHANGES)
		q->params[q->nparams++] = cursor;
}

/* A column of the length that port_mark has seen to. */
static int64_t
int64_at(const PGresult *r, int row, int col)
{
	uint64_t v;

	memcpy(&v, PQgetvalue(r, row, col), sizeof(v));
	return ((int64_t)be64toh(v));
}

static int
part_at(const PGresult *r, int row)
{
	uint32_t v;

	memcpy(&v, PQgetvalue(r, row, COL_PART), sizeof(v));
	return ((int)be32toh(v));
}

/* Microseconds since 2000 as Unix milliseconds; infinity is the highest number there is, and -infinity the lowest. */
static int64_t
unix_ms(int64_t us)
{
	if (us > INT64_MAX - POSTGRES_EPOCH_US)
		return (SEAT_NO_EXPIRY);
	if (us < -POSTGRES_EPOCH_US)
		return (0);		/* before 1970: long ago */
	return ((us + POSTGRES_EPOCH_US) / 1000);
}

static bool
has_shape(const PGresult *r)
{
	int col;

	if (PQnfields(r) != COLS)
		return (false);
	for (col = 0; col < COLS; col++)
		if (PQfformat(r, col) != 1 || (column_bytes[col] != 0 && PQfsize(r, col) != column_bytes[col]))
			return (false);
	return (true);
}

const char *
port_mark(const PGresult *r, const char **cursor_r, int64_t *as_of_ms_r)
{
	int i;

	if (!has_shape(r))
		return ("an answer of the wrong shape");
	for (i = PQntuples(r) - 1; i >= 0; i--)
		if (PQgetisnull(r, i, COL_SEAT) && !PQgetisnull(r, i, COL_CURSOR) && !PQgetisnull(r, i, COL_AS_OF)) {
			*cursor_r = PQgetvalue(r, i, COL_CURSOR);
			*as_of_ms_r = unix_ms(int64_at(r, i, COL_AS_OF));
			return (NULL);
		}
	return ("the port function returned no row with next_cursor and as_of");
}

static enum seat_status
status_at(struct port *p, const PGresult *r, int row)
{
	enum seat_status	 status;
	const char		*text = PQgetvalue(r, row, COL_STATUS);

	if (seat_status_parse(text, &status) == 0)
		return (status);
	if (!p->odd_status)
		log_warnx("poll: seat %lld has the status '%s': shown OCCUPIED; the port functions are to "
		    "return AVAILABLE, HOLD or OCCUPIED", (long long)int64_at(r, row, COL_SEAT), text);
	p->odd_status = true;
	return (SEAT_OCCUPIED);
}

/* false: no seat that anybody could ask for. */
static bool
row_at(struct port *p, const PGresult *r, int row, struct seat_row *row_r)
{
	row_r->id = int64_at(r, row, COL_SEAT);
	if (row_r->id < 1) {
		if (!p->odd_id)
			log_warnx("poll: seat %lld is not shown: ids begin with 1", (long long)row_r->id);
		p->odd_id = true;
		return (false);
	}
	row_r->block_id = PQgetisnull(r, row, COL_BLOCK) ? 0 : int64_at(r, row, COL_BLOCK);
	row_r->status = status_at(p, r, row);
	row_r->expires_ms = PQgetisnull(r, row, COL_EXPIRES) ? SEAT_NO_EXPIRY : unix_ms(int64_at(r, row, COL_EXPIRES));
	return (true);
}

ssize_t
port_rows(struct port *p, const PGresult *r, enum port_part part)
{
	int	i, n = PQntuples(r);
	size_t	count = 0;

	if ((size_t)n > p->cap) {
		struct seat_row *grown = reallocarray(p->rows, (size_t)n, sizeof(*grown));

		if (grown == NULL)
			return (-1);
		p->rows = grown;
		p->cap = (size_t)n;
	}
	for (i = 0; i < n; i++)
		if (part_at(r, i) == (int)part && !PQgetisnull(r, i, COL_SEAT) && row_at(p, r, i, &p->rows[count]))
			count++;
	return ((ssize_t)count);
}
