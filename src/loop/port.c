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
#define SEAT(gather)	gather("seat_id::bigint") ", " gather("status::text") ", " gather("hold_expires_at::timestamptz")
#define MARK(gather)	gather("next_cursor::text") ", " gather("as_of::timestamptz")

/* A poll for what is new: a row for each seat, and nothing more for the server to plan. */
#define AS_IT_IS(column)	column
#define ROWS(part, block, call) \
	"SELECT " part ", " block "::bigint, " SEAT(AS_IT_IS) ", " MARK(AS_IT_IS) " FROM seatcast." call

/*
 * All seats: a row for each block, with an array for each of a seat's columns.  libpq holds 16 bytes of its own for each
 * value of an answer; in rows a match's was most of what its loop ever needed.
 */
#define AS_ARRAY(column)	"pg_catalog.array_agg(" column ")"
#define OF_THE_MARK(column)	"pg_catalog.max(" column ") FILTER (WHERE seat_id IS NULL)"
#define ARRAYS(part, block, call) \
	"SELECT " part ", " block "::bigint, " SEAT(AS_ARRAY) ", " MARK(OF_THE_MARK) " FROM seatcast." call " GROUP BY 2"

#define BLOCK_CHANGES(as)	as("1", "$2", "changes($1::bigint, $2::bigint, $3::text)")
#define BLOCK_SNAPSHOT		ARRAYS("2", "$2", "snapshot($1::bigint, $2::bigint)")
#define MATCH_CHANGES(as)	as("1", "block_id", "match_changes($1::bigint, $2::text)")
#define MATCH_SNAPSHOT		ARRAYS("2", "block_id", "match_snapshot($1::bigint)")

enum { COL_PART, COL_BLOCK, COL_SEAT, COL_STATUS, COL_EXPIRES, COL_CURSOR, COL_AS_OF, COLS };

/* By kind of group and parts.  Parameters in this order, as far as they are needed: match, block, cursor. */
static const char *const statements[2][4] = {
	[false] = {
		[PORT_CHANGES]			= BLOCK_CHANGES(ROWS),
		[PORT_SNAPSHOT]			= BLOCK_SNAPSHOT,
		[PORT_CHANGES | PORT_SNAPSHOT]	= BLOCK_CHANGES(ARRAYS) " UNION ALL " BLOCK_SNAPSHOT,
	},
	[true] = {
		[PORT_CHANGES]			= MATCH_CHANGES(ROWS),
		[PORT_SNAPSHOT]			= MATCH_SNAPSHOT,
		[PORT_CHANGES | PORT_SNAPSHOT]	= MATCH_CHANGES(ARRAYS) " UNION ALL " MATCH_SNAPSHOT,
	},
};

/* What the casts above make of each column, in rows and in arrays: its length in binary, 0: text or an array. */
static const int column_bytes[2][COLS] = {
	[false] = { [COL_PART] = 4, [COL_BLOCK] = 8, [COL_SEAT] = 8, [COL_EXPIRES] = 8, [COL_AS_OF] = 8 },
	[true] = { [COL_PART] = 4, [COL_BLOCK] = 8, [COL_AS_OF] = 8 },
};

/* An array in binary: dimensions, flags, type, how many, from which number (the last two for each dimension); then length and bytes of each. */
#define ARRAY_HEADER	20
#define ARRAY_N_AT	12

struct array {
	const char	*at, *end;	/* what is not read yet */
	uint32_t	 n;		/* how many elements that is */
};

/* bytes NULL: SQL's NULL. */
struct value {
	const char	*bytes;
	size_t		 len;
};

struct seat_values {
	struct value id, status, expires;
};

/* The seats of a row of arrays. */
struct seats {
	struct array ids, statuses, expiries;
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

static uint32_t
uint32_at(const char *bytes)
{
	uint32_t v;

	memcpy(&v, bytes, sizeof(v));
	return (be32toh(v));
}

static int64_t
int64_at(const char *bytes)
{
	uint64_t v;

	memcpy(&v, bytes, sizeof(v));
	return ((int64_t)be64toh(v));
}

/* --- arrays ----------------------------------------------------------------- */

/* false: of another shape than one dimension with something in it. */
static bool
array_open(struct array *a, const PGresult *r, int row, int col)
{
	const char *bytes = PQgetvalue(r, row, col);

	if (PQgetlength(r, row, col) < ARRAY_HEADER || uint32_at(bytes) != 1)
		return (false);
	a->at = bytes + ARRAY_HEADER;
	a->end = bytes + PQgetlength(r, row, col);
	a->n = uint32_at(bytes + ARRAY_N_AT);
	return (a->n > 0);
}

/* bytes: what any element that is not NULL must have; 0: as many as there are.  false: no such element. */
static bool
array_next(struct array *a, size_t bytes, struct value *v)
{
	uint32_t len;

	if (a->n == 0 || a->end - a->at < (ptrdiff_t)sizeof(len))
		return (false);
	len = uint32_at(a->at);
	a->at += sizeof(len);
	a->n--;
	*v = (struct value){ NULL, 0 };
	if (len == UINT32_MAX)
		return (true);
	if (len > (size_t)(a->end - a->at) || (bytes != 0 && len != bytes))
		return (false);
	*v = (struct value){ a->at, len };
	a->at += len;
	return (true);
}

static bool
array_is_done(const struct array *a)
{
	return (a->n == 0 && a->at == a->end);
}

static bool
seats_open(struct seats *s, const PGresult *r, int row)
{
	return (array_open(&s->ids, r, row, COL_SEAT) && array_open(&s->statuses, r, row, COL_STATUS) &&
	    array_open(&s->expiries, r, row, COL_EXPIRES));
}

static bool
seats_next(struct seats *s, struct seat_values *v)
{
	return (array_next(&s->ids, sizeof(int64_t), &v->id) && array_next(&s->statuses, 0, &v->status) &&
	    array_next(&s->expiries, sizeof(int64_t), &v->expires));
}

/* Read from the first seat to the last, all three are at their end.  has_mark_r: one seat was NULL. */
static bool
arrays_have_shape(const PGresult *r, int row, bool *has_mark_r)
{
	struct seats		s;
	struct seat_values	v;

	*has_mark_r = false;
	if (!seats_open(&s, r, row))
		return (false);
	while (s.ids.n > 0) {
		if (!seats_next(&s, &v))
			return (false);
		if (v.id.bytes == NULL)
			*has_mark_r = true;
	}
	return (array_is_done(&s.ids) && array_is_done(&s.statuses) && array_is_done(&s.expiries));
}

/* --- answers ---------------------------------------------------------------- */

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
has_arrays(const PGresult *r)
{
	return (PQfsize(r, COL_SEAT) == -1);
}

static bool
has_shape(const PGresult *r)
{
	const int	*bytes;
	int		 col;

	if (PQnfields(r) != COLS)
		return (false);
	bytes = column_bytes[has_arrays(r)];
	for (col = 0; col < COLS; col++)
		if (PQfformat(r, col) != 1 || (bytes[col] != 0 && PQfsize(r, col) != bytes[col]))
			return (false);
	return (true);
}

/* All of it is looked at before any of it is taken in. */
const char *
port_mark(const PGresult *r, const char **cursor_r, int64_t *as_of_ms_r)
{
	int	i, mark = -1, n = PQntuples(r);
	bool	arrays, has_mark;

	if (!has_shape(r))
		return ("an answer of the wrong shape");
	arrays = has_arrays(r);
	for (i = 0; i < n; i++) {
		if (!arrays)
			has_mark = PQgetisnull(r, i, COL_SEAT);
		else if (!arrays_have_shape(r, i, &has_mark))
			return ("an answer of the wrong shape");
		if (has_mark && !PQgetisnull(r, i, COL_CURSOR) && !PQgetisnull(r, i, COL_AS_OF))
			mark = i;
	}
	if (mark == -1)
		return ("the port function returned no row with next_cursor and as_of");
	*cursor_r = PQgetvalue(r, mark, COL_CURSOR);
	*as_of_ms_r = unix_ms(int64_at(PQgetvalue(r, mark, COL_AS_OF)));
	return (NULL);
}

static enum seat_status
status_of(struct port *p, const struct seat_values *v)
{
	enum seat_status status;

	if (seat_status_parse(v->status.bytes, v->status.len, &status) == 0)
		return (status);
	if (!p->odd_status)
		log_warnx("poll: seat %lld has the status '%.*s': shown OCCUPIED; the port functions are to "
		    "return AVAILABLE, HOLD or OCCUPIED", (long long)int64_at(v->id.bytes),
		    (int)v->status.len, v->status.len > 0 ? v->status.bytes : "");
	p->odd_status = true;
	return (SEAT_OCCUPIED);
}

/* false: no seat that anybody could ask for. */
static bool
seat_of(struct port *p, const struct seat_values *v, int64_t block_id, struct seat_row *row_r)
{
	if (v->id.bytes == NULL)
		return (false);
	row_r->id = int64_at(v->id.bytes);
	if (row_r->id < 1) {
		if (!p->odd_id)
			log_warnx("poll: seat %lld is not shown: ids begin with 1", (long long)row_r->id);
		p->odd_id = true;
		return (false);
	}
	row_r->block_id = block_id;
	row_r->status = status_of(p, v);
	row_r->expires_ms = v->expires.bytes == NULL ? SEAT_NO_EXPIRY : unix_ms(int64_at(v->expires.bytes));
	return (true);
}

static bool
is_of_part(const PGresult *r, int row, enum port_part part)
{
	return (uint32_at(PQgetvalue(r, row, COL_PART)) == part);
}

/* Room for all rows of a part.  0, or -1: ENOMEM. */
static int
reserve(struct port *p, const PGresult *r, enum port_part part)
{
	struct seat_row	*grown;
	struct array	 ids;
	size_t		 n = (size_t)PQntuples(r);
	int		 i;

	if (has_arrays(r))
		for (i = 0, n = 0; i < PQntuples(r); i++)
			if (is_of_part(r, i, part) && array_open(&ids, r, i, COL_SEAT))
				n += ids.n;
	if (n <= p->cap)
		return (0);
	if ((grown = reallocarray(p->rows, n, sizeof(*grown))) == NULL)
		return (-1);
	p->rows = grown;
	p->cap = n;
	return (0);
}

static struct value
value_at(const PGresult *r, int row, int col)
{
	if (PQgetisnull(r, row, col))
		return ((struct value){ NULL, 0 });
	return ((struct value){ PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col) });
}

/* The seats of one row of an answer that has a mark.  Their number. */
static size_t
seats_at(struct port *p, const PGresult *r, int row, struct seat_row *rows)
{
	struct seats		s;
	struct seat_values	v;
	size_t			count = 0;
	int64_t			block_id = PQgetisnull(r, row, COL_BLOCK) ? 0 : int64_at(PQgetvalue(r, row, COL_BLOCK));

	if (!has_arrays(r)) {
		if (PQgetisnull(r, row, COL_SEAT))
			return (0);
		v = (struct seat_values){ value_at(r, row, COL_SEAT), value_at(r, row, COL_STATUS), value_at(r, row, COL_EXPIRES) };
		return (seat_of(p, &v, block_id, rows));
	}
	must(seats_open(&s, r, row));
	while (seats_next(&s, &v))
		if (seat_of(p, &v, block_id, &rows[count]))
			count++;
	return (count);
}

ssize_t
port_rows(struct port *p, const PGresult *r, enum port_part part)
{
	size_t	count = 0;
	int	i, n = PQntuples(r);

	if (reserve(p, r, part) == -1)
		return (-1);
	for (i = 0; i < n; i++)
		if (is_of_part(r, i, part))
			count += seats_at(p, r, i, p->rows + count);
	return ((ssize_t)count);
}
