/*
 * allocation - hold, release and confirm seats.
 *
 * The database decides each in one statement, so it does not matter how many
 * workers, hosts or other applications write.  Where it answers that
 * transactions got in each other's way (40001, 40P01: possible under
 * REPEATABLE READ and SERIALIZABLE) the statement is sent again.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/opts.h"
#include "shared/chan.h"
#include "wire/event.h"
#include "worker/request.h"

#define QUERY_TIMEOUT_MS	5000
#define MAX_TRIES		20
#define MAX_DEPTH		4
#define SQL_HOLD	"SELECT outcome, floor(extract(epoch FROM hold_expires_at) * 1000)::bigint " \
			"FROM seatcast.hold($1::bigint, $2::bigint, $3::bigint, $4::interval)"
#define SQL_RELEASE	"SELECT seatcast.release($1::bigint, $2::bigint, $3::bigint)"
#define SQL_CONFIRM	"SELECT seatcast.confirm($1::bigint, $2::bigint, $3::bigint[])"

struct allocation {
	unsigned	 tries;
	char		 user[24], duration[32];
	char		*seats;		/* "{101,102}" */
};

/* --- the body --------------------------------------------------------------- */

/*
 * Members of the outermost object as written.  What json-c lets pass and we
 * refuse: two members with one name (it keeps the last), and names in single
 * quotes (-1).
 */
static int
count_members(const char *json)
{
	int	depth = 0, colons = 0;
	bool	quoted = false;

	for (; *json != '\0'; json++) {
		if (quoted) {
			if (*json == '\\')
				json++;
			else if (*json == '"')
				quoted = false;
			continue;
		}
		if (*json == '\'')
			return (-1);
		quoted = *json == '"';
		depth += (*json == '{' || *json == '[') - (*json == '}' || *json == ']');
		colons += *json == ':' && depth == 1;
	}
	return (colons);
}

/* NULL: not one JSON object in strict syntax, without duplicate names. */
static struct json_object *
parse_body(const struct request *rq)
{
	struct json_tokener	*tok;
	struct json_object	*o = NULL;
	const char		*length = request_param(rq, "CONTENT_LENGTH");
	bool			 good;

	if (length != NULL && length[0] != '\0' && strcmp(length, "-1") != 0 && strtoul(length, NULL, 10) != rq->body_len)
		return (NULL);		/* cut short */
	if (rq->body_len == 0 || memchr(rq->body, '\0', rq->body_len) != NULL ||
	    (tok = json_tokener_new_ex(MAX_DEPTH)) == NULL)
		return (NULL);
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* with the NUL: it ends a number, and tells "not yet" from "complete" */
	o = json_tokener_parse_ex(tok, rq->body, (int)rq->body_len + 1);
	good = json_tokener_get_error(tok) == json_tokener_success &&
	    json_tokener_get_parse_end(tok) >= rq->body_len &&
	    json_object_is_type(o, json_type_object) &&
	    json_object_object_length(o) == count_members(rq->body);
	json_tokener_free(tok);
	if (good)
		return (o);
	json_object_put(o);
	return (NULL);
}

/* An id: an integer as written, 1 … INT64_MAX, exactly. */
static int
json_id(struct json_object *o, int64_t *id_r)
{
	if (!json_object_is_type(o, json_type_int) || json_object_get_uint64(o) > INT64_MAX)
		return (-1);
	*id_r = json_object_get_int64(o);
	return (*id_r >= 1 ? 0 : -1);
}

/* {"userId":7} into rq.  The body, for whoever wants more of it; NULL: refused, rq has been answered. */
static struct json_object *
take_user(struct request *rq, int members)
{
	struct json_object	*body = parse_body(rq), *user;
	struct allocation	*al = rq->state;
	int64_t			 id;

	if (body == NULL)
		request_error(rq, 400, "the body is to be one JSON object, without duplicate names");
	else if (!json_object_object_get_ex(body, "userId", &user) || json_id(user, &id) == -1) {
		request_error(rq, 400, "userId is to be an integer, 1 to 9223372036854775807");
		json_object_put(body);
		body = NULL;
	} else if (json_object_object_length(body) != members) {
		request_error(rq, 400, members == 1 ? "the body is to have userId and nothing else" :
		    "the body is to have userId, seatIds and nothing else");
		json_object_put(body);
		body = NULL;
	} else
		snprintf(al->user, sizeof(al->user), "%lld", (long long)id);
	return (body);
}

/* --- queries ---------------------------------------------------------------- */

static bool
try_again(struct request *rq, const struct db_answer *a)
{
	if ((strcmp(a->sqlstate, "40001") != 0 && strcmp(a->sqlstate, "40P01") != 0) || ++((struct allocation *)rq->state)->tries >= MAX_TRIES)
		return (false);
	db_submit(rq->service->reads, &rq->query);
	return (true);
}

/* The port function's word.  NULL: rq is answered, or its query is under way again. */
static const char *
outcome(struct request *rq, const struct db_answer *a)
{
	const char *word;

	if (a->result == NULL) {
		if (!try_again(rq, a))
			request_database_error(rq, a);
		return (NULL);
	}
	word = PQntuples(a->result) == 1 ? PQgetvalue(a->result, 0, 0) : "";
	if (strcmp(word, "ok") == 0)
		return (word);
	if (strcmp(word, "conflict") == 0)
		request_error(rq, 409, rq->route.action == ROUTE_HOLD ? "another user has this seat" :
		    rq->route.action == ROUTE_RELEASE ? "this user does not hold this seat" :
		    "not all of these seats are held by this user");
	else
		request_error(rq, 404, "no such match or seat");
	return (NULL);
}

static void
on_hold(struct db_query *q, const struct db_answer *a)
{
	struct request	*rq = q->arg;
	struct buf	 b = BUF_INIT;
	char		 expires[EVENT_TIME_BYTES];

	if (outcome(rq, a) == NULL)
		return;
	event_time_format(expires, strtoll(PQgetvalue(a->result, 0, 1), NULL, 10));
	buf_printf(&b, "{\"status\":200,\"data\":{\"seatId\":%lld,\"status\":\"HOLD\",\"holdExpiresAt\":\"%s\"}}",
	    (long long)rq->route.ids[1], expires);
	request_answer_json(rq, &b);
}

static void
on_release(struct db_query *q, const struct db_answer *a)
{
	if (outcome(q->arg, a) != NULL)
		request_answer(q->arg, 204, NULL, NULL, NULL, 0);
}

/* The ids in the order asked for. */
static void
on_confirm(struct db_query *q, const struct db_answer *a)
{
	struct request		*rq = q->arg;
	struct allocation	*al = rq->state;
	struct buf		 b = BUF_INIT;
	const char		*at;
	size_t			 n;

	if (outcome(rq, a) == NULL)
		return;
	buf_puts(&b, "{\"status\":200,\"data\":{\"confirmedSeats\":[");
	for (at = al->seats + 1; (n = strspn(at, "0123456789")) > 0; at += n + 1)
		buf_printf(&b, "%s{\"seatId\":%.*s,\"status\":\"OCCUPIED\"}", at == al->seats + 1 ? "" : ",", (int)n, at);
	buf_puts(&b, "]}}");
	request_answer_json(rq, &b);
}

static void
ask(struct request *rq, const char *sql, int nparams, int flags, db_done_cb *done)
{
	request_query(rq, rq->service->reads, sql, nparams, flags, QUERY_TIMEOUT_MS, done);
}

static void
hold_or_release(struct request *rq, const char *sql, int nparams, int flags, db_done_cb *done)
{
	struct allocation	*al;
	struct json_object	*body = take_user(rq, 1);

	if (body == NULL)
		return;
	json_object_put(body);
	al = rq->state;
	snprintf(al->duration, sizeof(al->duration), "%ld ms", rq->service->opts->hold_duration_ms);
	rq->query.params[0] = rq->text[0];
	rq->query.params[1] = rq->text[1];
	rq->query.params[2] = al->user;
	rq->query.params[3] = al->duration;
	ask(rq, sql, nparams, flags, done);
}

static void
hold(struct request *rq)
{
	/* holding twice is renewing: harmless to repeat after a lost connection */
	hold_or_release(rq, SQL_HOLD, 4, DB_FAIL_FAST | DB_RETRY, on_hold);
}

static void
release(struct request *rq)
{
	hold_or_release(rq, SQL_RELEASE, 3, DB_FAIL_FAST, on_release);
}

static int
by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return ((x > y) - (x < y));
}

static bool
all_different(int64_t *ids, size_t n)
{
	size_t i;

	qsort(ids, n, sizeof(*ids), by_value);
	for (i = 1; i < n && ids[i] != ids[i - 1]; i++)
		;
	return (i >= n);
}

/* seatIds as a PostgreSQL array.  NULL: not an array of at least one id, all different; or ENOMEM. */
static char *
id_array(struct json_object *array)
{
	struct buf	 b = BUF_INIT;
	size_t		 i, n;
	int64_t		*ids;
	bool		 good = false;

	if (!json_object_is_type(array, json_type_array) || (n = json_object_array_length(array)) == 0 ||
	    (ids = calloc(n, sizeof(*ids))) == NULL)
		return (NULL);
	for (i = 0; i < n && json_id(json_object_array_get_idx(array, i), &ids[i]) == 0; i++)
		buf_printf(&b, "%c%lld", i == 0 ? '{' : ',', (long long)ids[i]);
	buf_puts(&b, "}");
	good = i == n && all_different(ids, n) && buf_ok(&b);
	free(ids);
	if (good)
		return (b.data);
	buf_fini(&b);
	return (NULL);
}

static void
confirm(struct request *rq)
{
	struct json_object	*body = take_user(rq, 2), *ids = NULL;
	struct allocation	*al = rq->state;

	if (body == NULL)
		return;
	if (json_object_object_get_ex(body, "seatIds", &ids))
		al->seats = id_array(ids);
	json_object_put(body);
	if (al->seats == NULL) {
		request_error(rq, 400, "seatIds is to be an array of different seat ids, at least one");
		return;
	}
	rq->query.params[0] = rq->text[0];
	rq->query.params[1] = al->user;
	rq->query.params[2] = al->seats;
	ask(rq, SQL_CONFIRM, 3, DB_FAIL_FAST, on_confirm);
}

void
action_allocate(struct request *rq)
{
	if ((rq->state = calloc(1, sizeof(struct allocation))) == NULL)
		request_out_of_memory(rq);
	else if (rq->route.action == ROUTE_HOLD)
		hold(rq);
	else if (rq->route.action == ROUTE_RELEASE)
		release(rq);
	else
		confirm(rq);
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
