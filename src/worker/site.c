/*
 * site - the stadium as the port functions describe it: areas, sections, blocks,
 * seats.  Each action is one query; an unknown parent is SQLSTATE P0002, 404.
 */
#include <json-c/json.h>
#include <stdlib.h>

#include "worker/request.h"

#define QUERY_TIMEOUT_MS	5000

/* A column as JSON: SQL integers exactly, anything else as text. */
static struct json_object *
cell(const PGresult *r, int row, int col)
{
	enum { INT8OID = 20, INT2OID = 21, INT4OID = 23 };	/* pg_type: fixed for ever */

	if (PQgetisnull(r, row, col))
		return (NULL);
	switch (PQftype(r, col)) {
	case INT2OID:
	case INT4OID:
	case INT8OID:
		return (json_object_new_int64(strtoll(PQgetvalue(r, row, col), NULL, 10)));
	default:
		return (json_object_new_string_len(PQgetvalue(r, row, col), PQgetlength(r, row, col)));
	}
}

/* {"status":200,"data":{name:[{…},…]}}; the keys are the query's column names. */
static void
answer_list(struct request *rq, const struct db_answer *a, const char *name)
{
	struct json_object	*top, *data, *list, *item;
	int			 row, col;

	if (a->result == NULL) {
		request_database_error(rq, a);
		return;
	}
	top = json_object_new_object();
	data = json_object_new_object();
	list = json_object_new_array();
	json_object_object_add(top, "status", json_object_new_int(200));
	json_object_object_add(top, "data", data);
	json_object_object_add(data, name, list);
	for (row = 0; row < PQntuples(a->result); row++) {
		item = json_object_new_object();
		for (col = 0; col < PQnfields(a->result); col++)
			json_object_object_add(item, PQfname(a->result, col), cell(a->result, row, col));
		json_object_array_add(list, item);
	}
	request_answer_json(rq, top);
}

#define SITE_ACTION(action, list, parents, sql)					\
static void									\
on_##action(struct db_query *q, const struct db_answer *a)			\
{										\
	answer_list(q->arg, a, list);						\
}										\
void										\
action_##action(struct request *rq)						\
{										\
	rq->query.params[0] = rq->text[0];					\
	request_query(rq, sql, parents, DB_RETRY | DB_FAIL_FAST, QUERY_TIMEOUT_MS, on_##action); \
}

SITE_ACTION(areas, "areas", 0, "SELECT id, name FROM seatcast.areas()")
SITE_ACTION(sections, "sections", 1, "SELECT id, name FROM seatcast.sections($1::bigint)")
SITE_ACTION(blocks, "blocks", 1, "SELECT id, name FROM seatcast.blocks($1::bigint)")
SITE_ACTION(seats, "seats", 1, "SELECT id, row_number AS \"rowNumber\", seat_number AS \"seatNumber\" "
    "FROM seatcast.block_seats($1::bigint)")
