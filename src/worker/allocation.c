/* SPDX-License-Identifier: ISC */
/*
 * allocation - hold, release and confirm seats: one of the path, or those of the body.
 *
 * The database decides each in one statement, all seats or none, so it does not matter
 * how many workers, hosts or other applications write.  Where it answers that
 * transactions got in each other's way (40001, 40P01: possible under REPEATABLE READ
 * and SERIALIZABLE) the statement is sent again.  What was done is told to the loops
 * before the buyer hears of it, so that they poll at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/must.h"
#include "base/opts.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "wire/event.h"
#include "worker/body.h"
#include "worker/crowd.h"
#include "worker/request.h"
#include "worker/writes.h"

#define QUERY_TIMEOUT_MS	5000
#define MAX_TRIES		20
#define ID_BYTES		21	/* the longest id, and a comma or NUL */

/*
 * All three answer with one row for each seat, by seat id.  The role's search_path may name a schema in which others
 * create operators, and one for these very types would be called with its rights.
 */
#define COLUMNS	"SELECT seat_id, block_id, outcome, " \
		"pg_catalog.floor(extract(epoch FROM hold_expires_at) OPERATOR(pg_catalog.*) 1000::numeric)::bigint FROM seatcast."
#define ARGS	"($1::bigint, $2::bigint, $3::bigint[]"
enum { COL_SEAT, COL_BLOCK, COL_OUTCOME, COL_EXPIRES };

struct allocation {
	unsigned	 tries;
	struct db	*lane;
	char		 user[ID_BYTES], duration[32], lifetime[32], max_holds[24];
	char		*seats;		/* "{101,102}" */
	size_t		 n;
	int64_t		 ids[];		/* in the order asked for */
};

static db_done_cb	on_hold_one, on_hold, on_release, on_confirm;

static const struct act {
	enum route_action	 route;
	bool			 one;		/* the seat is in the path, and not in the body */
	const char		*sql;
	int			 nparams;
	int			 flags;
	db_done_cb		*done;
} acts[] = {
	/* holding twice is renewing, confirming twice has been done: harmless to repeat after a lost connection */
	{ ROUTE_HOLD,		true,  COLUMNS "hold_seats" ARGS ", $4::interval, $5::integer, $6::interval)", 6,
	    DB_FAIL_FAST | DB_RETRY, on_hold_one },
	{ ROUTE_HOLD_SEATS,	false, COLUMNS "hold_seats" ARGS ", $4::interval, $5::integer, $6::interval)", 6,
	    DB_FAIL_FAST | DB_RETRY, on_hold },
	{ ROUTE_RELEASE,	true,  COLUMNS "release_seats" ARGS ")", 3, DB_FAIL_FAST, on_release },
	{ ROUTE_RELEASE_SEATS,	false, COLUMNS "release_seats" ARGS ")", 3, DB_FAIL_FAST, on_release },
	{ ROUTE_CONFIRM,	false, COLUMNS "confirm_seats" ARGS ")", 3, DB_FAIL_FAST | DB_RETRY, on_confirm },
};

/* Why a seat can't be had: SPEC 1.  The text is the answer's message when it is the first reason. */
static const struct reason {
	const char	*name, *one, *several;
} reasons[] = {
	{ "held",	"another user has this seat", "another user has one of these seats" },
	{ "sold",	"this seat is sold", "one of these seats is sold" },
	{ "limit",	"this user has as many seats as one may hold, or has held this one for as long as one may",
	    "this user would have more seats than one may hold, or has held one for as long as one may" },
	{ "not-yours",	"this user does not hold this seat", "this user does not hold all of these seats" },
};

static const struct act *
act_of(const struct request *rq)
{
	size_t i;

	for (i = 0; i < nitems(acts) && acts[i].route != rq->route.action; i++)
		;
	must(i < nitems(acts));
	return (&acts[i]);
}

/* --- what the database said ------------------------------------------------------- */

static const char *
value(const struct db_answer *a, int row, int col)
{
	return (PQgetvalue(a->result, row, col));
}

static bool
try_again(struct request *rq, const struct db_answer *a)
{
	struct allocation *al = rq->state;

	if ((strcmp(a->sqlstate, "40001") != 0 && strcmp(a->sqlstate, "40P01") != 0) || ++al->tries >= MAX_TRIES)
		return (false);
	db_submit(al->lane, &rq->query);
	return (true);
}

/* NULL: ok, unknown, or no word of ours. */
static const struct reason *
reason_of(const char *outcome)
{
	size_t i;

	for (i = 0; i < nitems(reasons); i++)
		if (strcmp(outcome, reasons[i].name) == 0)
			return (&reasons[i]);
	return (NULL);
}

/* 409, with each seat that was in the way. */
static void
answer_conflict(struct request *rq, const struct db_answer *a)
{
	const struct reason	*first = NULL, *reason;
	struct buf		 b = BUF_INIT, list = BUF_INIT;
	int			 row;

	for (row = 0; row < PQntuples(a->result); row++) {
		if ((reason = reason_of(value(a, row, COL_OUTCOME))) == NULL)
			continue;
		buf_printf(&list, "%s{\"seatId\":%s,\"reason\":\"%s\"}", first != NULL ? "," : "",
		    value(a, row, COL_SEAT), reason->name);
		if (first == NULL)
			first = reason;
	}
	must(first != NULL);
	buf_printf(&b, "{\"status\":409,\"message\":\"%s\",\"data\":{\"seats\":[%s]}}",
	    PQntuples(a->result) == 1 ? first->one : first->several, buf_ok(&list) ? list.data : "");
	if (buf_ok(&list) && buf_ok(&b))
		request_answer(rq, 409, "application/json", NULL, b.data, b.len);
	else
		request_out_of_memory(rq);
	buf_fini(&list);
	buf_fini(&b);
}

/* Tell the loops of every block that was written to, before the buyer hears of it (SPEC 2, promise 6). */
static void
tell_loops(const struct request *rq, const struct db_answer *a)
{
	struct chan_wrote	wrote = { { rq->route.ids[0], 0 } };
	int			row, before;

	for (row = 0; row < PQntuples(a->result); row++) {
		for (before = 0; before < row; before++)
			if (strcmp(value(a, before, COL_BLOCK), value(a, row, COL_BLOCK)) == 0)
				break;
		wrote.key.block_id = strtoll(value(a, row, COL_BLOCK), NULL, 10);
		if (before == row && wrote.key.block_id > 0)
			(void)chan_send(rq->service->master, CHAN_WROTE, &wrote, NULL);
	}
}

/* All seats are ok, counted, and the loops are told.  false: rq is answered, or its query is under way again. */
static bool
done(struct request *rq, const struct db_answer *a, enum board_value counter)
{
	struct allocation	*al = rq->state;
	int			 row, ok = 0, refused = 0;

	if (a->result == NULL) {
		if (strcmp(a->sqlstate, "55P03") == 0)
			writes_met_lock(rq->service->writes, rq->route.ids[0], al->ids, al->n);
		if (!try_again(rq, a))
			request_database_error(rq, a);
		return (false);
	}
	writes_went_through(rq->service->writes, rq->route.ids[0], al->ids, al->n);
	for (row = 0; row < PQntuples(a->result); row++) {
		ok += strcmp(value(a, row, COL_OUTCOME), "ok") == 0;
		refused += reason_of(value(a, row, COL_OUTCOME)) != NULL;
	}
	if (row == 0 || ok + refused < row)
		request_error(rq, 404, "no such match or seat");
	else if (refused > 0) {
		board_add(rq->service->slot, BOARD_conflicts, 1);
		answer_conflict(rq, a);
	} else {
		tell_loops(rq, a);
		board_add(rq->service->slot, counter, (int64_t)al->n);
		return (true);
	}
	return (false);
}

/* The row of a seat; they are ordered by its id.  -1: there is none. */
static int
row_of(const struct db_answer *a, int64_t seat_id)
{
	int low = 0, high = PQntuples(a->result) - 1, middle;

	while (low <= high) {
		int64_t id = strtoll(value(a, middle = low + (high - low) / 2, COL_SEAT), NULL, 10);

		if (id == seat_id)
			return (middle);
		if (id < seat_id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return (-1);
}

/* "seatId":101,"status":"HOLD","holdExpiresAt":"…Z": what a held seat is. */
static void
put_held(struct buf *b, const struct db_answer *a, int64_t seat_id)
{
	char	expires[EVENT_TIME_BYTES];
	int	row = row_of(a, seat_id);

	event_time_format(expires, row == -1 ? 0 : strtoll(value(a, row, COL_EXPIRES), NULL, 10));
	buf_printf(b, "\"seatId\":%lld,\"status\":\"HOLD\",\"holdExpiresAt\":\"%s\"", (long long)seat_id, expires);
}

static void
on_hold_one(struct db_query *q, const struct db_answer *a)
{
	struct request		*rq = q->arg;
	struct allocation	*al = rq->state;
	struct buf		 b = BUF_INIT;

	if (!done(rq, a, BOARD_seats_held))
		return;
	buf_puts(&b, "{\"status\":200,\"data\":{");
	put_held(&b, a, al->ids[0]);
	buf_puts(&b, "}}");
	request_answer_json(rq, &b);
}

static void
on_hold(struct db_query *q, const struct db_answer *a)
{
	struct request		*rq = q->arg;
	struct allocation	*al = rq->state;
	struct buf		 b = BUF_INIT;
	size_t			 i;

	if (!done(rq, a, BOARD_seats_held))
		return;
	buf_puts(&b, "{\"status\":200,\"data\":{\"heldSeats\":[");
	for (i = 0; i < al->n; i++) {
		buf_puts(&b, i == 0 ? "{" : ",{");
		put_held(&b, a, al->ids[i]);
		buf_puts(&b, "}");
	}
	buf_puts(&b, "]}}");
	request_answer_json(rq, &b);
}

static void
on_release(struct db_query *q, const struct db_answer *a)
{
	if (done(q->arg, a, BOARD_seats_released))
		request_answer(q->arg, 204, NULL, NULL, NULL, 0);
}

static void
on_confirm(struct db_query *q, const struct db_answer *a)
{
	struct request		*rq = q->arg;
	struct allocation	*al = rq->state;
	struct buf		 b = BUF_INIT;
	size_t			 i;

	if (!done(rq, a, BOARD_seats_sold))
		return;
	buf_puts(&b, "{\"status\":200,\"data\":{\"confirmedSeats\":[");
	for (i = 0; i < al->n; i++)
		buf_printf(&b, "%s{\"seatId\":%lld,\"status\":\"OCCUPIED\"}", i == 0 ? "" : ",", (long long)al->ids[i]);
	buf_puts(&b, "]}}");
	request_answer_json(rq, &b);
}

/* --- what is asked for ------------------------------------------------------------- */

/* Is this Content-Type JSON: application/json or any +json, in any case, with any parameters?  None given is fine. */
static bool
is_json(const char *type)
{
	size_t n;

	if (type == NULL)
		return (true);
	type += strspn(type, " \t");
	n = strcspn(type, "; \t");
	return (n == 0 || (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
	    (n > 5 && strncasecmp(type + n - 5, "+json", 5) == 0));
}

/* Is the body all that CONTENT_LENGTH promised?  Not set, empty or -1: it is what STDIN brought. */
static bool
is_complete(const struct request *rq)
{
	const char *length = request_param(rq, "CONTENT_LENGTH");

	return (length == NULL || length[0] == '\0' || strcmp(length, "-1") == 0 ||
	    strtoul(length, NULL, 10) == rq->body_len);
}

/* Who it is for.  false: refused, rq is answered. */
static bool
take_user(struct request *rq, struct body *body)
{
	if (rq->service->opts->user_param == NULL) {
		if (!body->has_user)
			request_error(rq, 400, "userId is to be an integer, 1 to 9223372036854775807");
		return (body->has_user);
	}
	if (body->has_user && body->user_id != rq->peer.user_id) {
		request_error(rq, 403, "userId is not who is logged in");
		return (false);
	}
	body->user_id = rq->peer.user_id;
	return (true);
}

/* The body, judged.  false: refused, rq is answered. */
static bool
take_body(struct request *rq, struct body *body)
{
	bool		 one = act_of(rq)->one, known = rq->service->opts->user_param != NULL;
	long		 max = rq->service->opts->max_seats;
	const char	*wrong = NULL;
	char		 text[80];

	if (known && rq->peer.user_id == 0)
		request_error(rq, 401, "nobody is logged in");
	else if (known && rq->peer.cross_site && rq->peer.origin[0] == '\0')
		request_error(rq, 403, "pages of other sites may not do this");
	else if (!is_json(request_param(rq, "CONTENT_TYPE")))
		request_error(rq, 415, "the body is to be JSON: Content-Type: application/json");
	else if (!is_complete(rq))
		request_error(rq, 400, "the body is shorter or longer than its Content-Length");
	else if ((rq->body_len > 0 || !known || !one) && (wrong = body_parse(rq->body, rq->body_len, body)) != NULL)
		request_error(rq, 400, wrong);
	else if (one && body->has_seats)
		request_error(rq, 400, "the body is to have userId and nothing else");
	else if (!one && !body->has_seats)
		request_error(rq, 400, "seatIds is to be an array of different seat ids, at least one");
	else if (body->nseats > (size_t)max) {
		snprintf(text, sizeof(text), "seatIds is to be at most %ld seats", max);
		request_error(rq, 400, text);
	} else
		return (take_user(rq, body));
	return (false);
}

/* The parameters of the query.  NULL: ENOMEM. */
static struct allocation *
allocation_new(const struct opts *o, const struct body *body)
{
	struct allocation	*al;
	size_t			 n = body->nseats, i, used = 0;

	if ((al = calloc(1, sizeof(*al) + n * sizeof(al->ids[0]) + n * ID_BYTES + 3)) == NULL)
		return (NULL);
	al->n = n;
	memcpy(al->ids, body->seats, n * sizeof(al->ids[0]));
	al->seats = (char *)&al->ids[n];
	for (i = 0; i < n; i++)
		used += (size_t)sprintf(al->seats + used, "%c%lld", i == 0 ? '{' : ',', (long long)al->ids[i]);
	strcpy(al->seats + used, "}");
	snprintf(al->user, sizeof(al->user), "%lld", (long long)body->user_id);
	snprintf(al->duration, sizeof(al->duration), "%ld ms", o->hold_duration_ms);
	snprintf(al->lifetime, sizeof(al->lifetime), "%ld ms", o->hold_lifetime_ms);
	snprintf(al->max_holds, sizeof(al->max_holds), "%ld", o->max_holds);
	return (al);
}

/* A lane for rq's statement; when it is full, somebody who has many waiting gives way.  false: rq is answered. */
static bool
take_lane(struct request *rq, struct allocation *al)
{
	struct writes	*writes = rq->service->writes;
	struct request	*other;
	bool		 hot;

	al->lane = writes_lane(writes, rq->route.ids[0], al->ids, al->n, &hot);
	if (al->lane == NULL && !hot && (other = crowd_gives_way(rq)) != NULL) {
		request_refuse(other, REFUSAL_CLIENT);
		al->lane = writes_lane(writes, rq->route.ids[0], al->ids, al->n, &hot);
	}
	if (al->lane != NULL)
		return (true);
	if (hot)
		request_error(rq, 503, "the seat is busy, please try again");
	else
		request_refuse(rq, REFUSAL_OVERLOAD);
	return (false);
}

void
action_allocate(struct request *rq)
{
	const struct act	*act = act_of(rq);
	struct body		 body = { .nseats = 0 };
	struct allocation	*al;

	if (!take_body(rq, &body))
		return;
	if (act->one) {
		body.nseats = 1;
		body.seats[0] = rq->route.ids[1];
	}
	if ((al = rq->state = allocation_new(rq->service->opts, &body)) == NULL) {
		request_out_of_memory(rq);
		return;
	}
	if (!take_lane(rq, al))
		return;
	rq->query.params[0] = rq->text[0];
	rq->query.params[1] = al->user;
	rq->query.params[2] = al->seats;
	rq->query.params[3] = al->duration;
	rq->query.params[4] = al->max_holds;
	rq->query.params[5] = al->lifetime;
	request_query(rq, al->lane, act->sql, act->nparams, act->flags, QUERY_TIMEOUT_MS, act->done);
}

/*
 * Somebody else wrote to a block: whoever shows it polls at once.  Where nobody
 * watches nothing is asked, so a block that does not exist is 204 as well.
 */
void
action_changed(struct request *rq)
{
	struct chan_wrote wrote = { { rq->route.ids[0], rq->route.ids[1] } };

	(void)chan_send(rq->service->master, CHAN_WROTE, &wrote, NULL);
	request_answer(rq, 204, NULL, NULL, NULL, 0);
}
