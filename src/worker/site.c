/* SPDX-License-Identifier: ISC */
/*
 * site - the matches, and the stadium as the port functions describe it: areas,
 * sections, blocks, seats.  Each action is one query; an unknown parent is SQLSTATE
 * P0002, 404.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/must.h"
#include "wire/http.h"
#include "worker/request.h"

#define QUERY_TIMEOUT_MS	5000
#define STADIUM_CACHE		"Cache-Control: public, max-age=60\r\n"
#define SQL_STADIUM		"SELECT area_id, area_name, section_id, section_name, block_id, block_name " \
				"FROM seatcast.stadium()"

/* The keys of the answer's objects are the query's column names. */
static const struct listing {
	enum route_action	 route;
	const char		*name;
	int			 parents;	/* ids of the path that the query wants */
	const char		*sql;
} listings[] = {
	{ ROUTE_MATCHES,  "matches",  0, "SELECT id, name FROM seatcast.matches()" },
	{ ROUTE_AREAS,	  "areas",    0, "SELECT id, name FROM seatcast.areas()" },
	{ ROUTE_SECTIONS, "sections", 1, "SELECT id, name FROM seatcast.sections($1::bigint)" },
	{ ROUTE_BLOCKS,	  "blocks",   1, "SELECT id, name FROM seatcast.blocks($1::bigint)" },
	{ ROUTE_SEATS,	  "seats",    1, "SELECT id, row_number AS \"rowNumber\", seat_number AS \"seatNumber\" "
	    "FROM seatcast.block_seats($1::bigint)" },
};

static const struct listing *
listing_of(const struct request *rq)
{
	size_t i;

	for (i = 0; i < nitems(listings) && listings[i].route != rq->route.action; i++)
		;
	must(i < nitems(listings));
	return (&listings[i]);
}

/* A column as JSON: SQL integers exactly, anything else as text. */
static void
put_cell(struct buf *b, const PGresult *r, int row, int col)
{
	enum { INT8OID = 20, INT2OID = 21, INT4OID = 23 };	/* pg_type: fixed for ever */

	if (PQgetisnull(r, row, col)) {
		buf_puts(b, "null");
		return;
	}
	switch (PQftype(r, col)) {
	case INT2OID:
	case INT4OID:
	case INT8OID:
		buf_puts(b, PQgetvalue(r, row, col));
		break;
	default:
		http_json_string(b, PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col));
		break;
	}
}

static void
on_list(struct db_query *q, const struct db_answer *a)
{
	struct request	*rq = q->arg;
	struct buf	 b = BUF_INIT;
	int		 row, col;

	if (a->result == NULL) {
		request_database_error(rq, a);
		return;
	}
	buf_printf(&b, "{\"status\":200,\"data\":{\"%s\":[", listing_of(rq)->name);
	for (row = 0; row < PQntuples(a->result); row++) {
		for (col = 0; col < PQnfields(a->result); col++) {
			buf_printf(&b, "%s\"%s\":", col > 0 ? "," : row > 0 ? ",{" : "{", PQfname(a->result, col));
			put_cell(&b, a->result, row, col);
		}
		buf_puts(&b, "}");
	}
	buf_puts(&b, "]}}");
	request_answer_json(rq, &b);
}

void
action_list(struct request *rq)
{
	const struct listing *l = listing_of(rq);

	rq->query.params[0] = rq->text[0];
	request_query(rq, rq->service->reads, l->sql, l->parents, DB_RETRY | DB_FAIL_FAST, QUERY_TIMEOUT_MS, on_list);
}

/* --- the stadium in one answer ---------------------------------------------------- */

/* Columns of SQL_STADIUM come in pairs, id and name, of these levels. */
static const char *const levels[] = { "areas", "sections", "blocks" };
#define LEVELS	3

static bool
same_id(const PGresult *r, int row, int level)
{
	return (row > 0 && strcmp(PQgetvalue(r, row, 2 * level), PQgetvalue(r, row - 1, 2 * level)) == 0);
}

/* Close what the row before has open below level, that level's object included. */
static void
close_levels(struct buf *b, int open, int level)
{
	for (; open > level; open--)
		buf_puts(b, open == LEVELS ? "}" : "]}");
}

/*
 * Rows are ordered by the three ids, so each opens what differs from the one before:
 * {"id":1,"name":"…","sections":[ and so on, a block being {"id":101,"name":"…"}.
 */
static void
put_stadium(struct buf *b, const PGresult *r)
{
	int row, level, open = 0;	/* objects that are open: 0 to 3 */

	buf_puts(b, "{\"status\":200,\"data\":{\"areas\":[");
	for (row = 0; row < PQntuples(r); row++) {
		for (level = 0; level < LEVELS - 1 && level < open && same_id(r, row, level); level++)
			;
		if (open > level) {
			close_levels(b, open, level);
			buf_puts(b, ",");
		}
		for (open = level; open < LEVELS && !PQgetisnull(r, row, 2 * open); open++) {
			buf_puts(b, "{\"id\":");
			put_cell(b, r, row, 2 * open);
			buf_puts(b, ",\"name\":");
			put_cell(b, r, row, 2 * open + 1);
			if (open < LEVELS - 1)
				buf_printf(b, ",\"%s\":[", levels[open + 1]);
		}
	}
	close_levels(b, open, 0);
	buf_puts(b, "]}}");
}

static void
on_stadium(struct db_query *q, const struct db_answer *a)
{
	struct request	*rq = q->arg;
	struct buf	 b = BUF_INIT;
	char		 tag[HTTP_ETAG_BYTES], headers[128];

	if (a->result == NULL) {
		request_database_error(rq, a);
		return;
	}
	put_stadium(&b, a->result);
	if (!buf_ok(&b)) {
		request_out_of_memory(rq);
		buf_fini(&b);
		return;
	}
	http_etag(tag, b.data, b.len);
	snprintf(headers, sizeof(headers), "ETag: \"%s\"\r\n" STADIUM_CACHE, tag);
	if (http_etag_matches(request_param(rq, "HTTP_IF_NONE_MATCH"), tag))
		request_answer(rq, 304, NULL, headers, NULL, 0);
	else
		request_answer(rq, 200, "application/json", headers, b.data, b.len);
	buf_fini(&b);
}

void
action_stadium(struct request *rq)
{
	request_query(rq, rq->service->reads, SQL_STADIUM, 0, DB_RETRY | DB_FAIL_FAST, QUERY_TIMEOUT_MS, on_stadium);
}
