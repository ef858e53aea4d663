/* SPDX-License-Identifier: ISC */
/*
 * route: the URL table of SPEC 1, and everything that is not in it.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "unit.h"
#include "worker/route.h"

#define MAX	"9223372036854775807"

static const struct {
	const char		*says, *method, *path;
	int			 status;
	enum route_action	 action;
	int64_t			 ids[ROUTE_MAX_IDS];
} find_cases[] = {
	{ "the stream", "GET", "/api/matches/1/blocks/101/seats/status-stream", 200, ROUTE_STREAM, { 1, 101 } },
	{ "the snapshot", "GET", "/api/matches/1/blocks/101/seats", 200, ROUTE_SNAPSHOT, { 1, 101 } },
	{ "changes of a block", "GET", "/api/matches/1/blocks/101/seats/changes", 200, ROUTE_CHANGES, { 1, 101 } },
	{ "somebody changed it", "POST", "/api/matches/1/blocks/101/seats/changed", 200, ROUTE_CHANGED, { 1, 101 } },
	{ "the stream of a match", "GET", "/api/matches/1/status-stream", 200, ROUTE_MATCH_STREAM, { 1, 0 } },
	{ "counts of a match", "GET", "/api/matches/1/blocks", 200, ROUTE_COUNTS, { 1, 0 } },
	{ "matches", "GET", "/api/matches", 200, ROUTE_MATCHES, { 0, 0 } },
	{ "the stadium", "GET", "/api/site/stadium", 200, ROUTE_STADIUM, { 0, 0 } },
	{ "areas", "GET", "/api/site/areas", 200, ROUTE_AREAS, { 0, 0 } },
	{ "sections of an area", "GET", "/api/site/areas/5/sections", 200, ROUTE_SECTIONS, { 5, 0 } },
	{ "blocks of a section", "GET", "/api/site/sections/6/blocks", 200, ROUTE_BLOCKS, { 6, 0 } },
	{ "seats of a block", "GET", "/api/site/blocks/7/seats", 200, ROUTE_SEATS, { 7, 0 } },
	{ "hold", "POST", "/api/matches/1/allocation/seats/101/hold", 200, ROUTE_HOLD, { 1, 101 } },
	{ "release", "POST", "/api/matches/1/allocation/seats/101/release", 200, ROUTE_RELEASE, { 1, 101 } },
	{ "hold of several", "POST", "/api/matches/1/allocation/seats/hold", 200, ROUTE_HOLD_SEATS, { 1, 0 } },
	{ "release of several", "POST", "/api/matches/1/allocation/seats/release", 200, ROUTE_RELEASE_SEATS, { 1, 0 } },
	{ "confirm has no seat in its path", "POST", "/api/matches/1/allocation/seats/confirm", 200, ROUTE_CONFIRM, { 1, 0 } },
	{ "healthz", "GET", "/healthz", 200, ROUTE_HEALTHZ, { 0, 0 } },
	{ "readyz", "GET", "/readyz", 200, ROUTE_READYZ, { 0, 0 } },
	{ "metrics", "GET", "/metrics", 200, ROUTE_METRICS, { 0, 0 } },
	{ "status", "GET", "/status", 200, ROUTE_STATUS, { 0, 0 } },
	{ "HEAD goes where GET goes", "HEAD", "/api/matches/1/blocks/101/seats/status-stream", 200, ROUTE_STREAM, { 1, 101 } },
	{ "ids go up to the greatest", "GET", "/api/matches/" MAX "/blocks/" MAX "/seats", 200, ROUTE_SNAPSHOT, { INT64_MAX, INT64_MAX } },

	{ "the root is nothing", "GET", "/", 404, 0, { 0, 0 } },
	{ "an empty path is nothing", "GET", "", 404, 0, { 0, 0 } },
	{ "a beginning of a path is another", "GET", "/api/matches/1/blocks/101", 404, 0, { 0, 0 } },
	{ "a path with more behind it is another", "GET", "/healthz/x", 404, 0, { 0, 0 } },
	{ "a slash behind it makes another path", "GET", "/api/matches/1/blocks/101/seats/", 404, 0, { 0, 0 } },
	{ "a longer word is another", "GET", "/healthzz", 404, 0, { 0, 0 } },
	{ "paths know upper and lower case", "GET", "/API/site/areas", 404, 0, { 0, 0 } },
	{ "two slashes are not one", "GET", "//healthz", 404, 0, { 0, 0 } },
	{ "nothing is resolved", "GET", "/api/../healthz", 404, 0, { 0, 0 } },
	{ "the table's sign for an id is no id", "GET", "/api/site/areas/#/sections", 400, ROUTE_SECTIONS, { 0, 0 } },
	{ "unknown is 404 whatever the method", "PUT", "/nowhere", 404, 0, { 0, 0 } },

	{ "the stream takes no POST", "POST", "/api/matches/1/blocks/101/seats/status-stream", 405, ROUTE_STREAM, { 0, 0 } },
	{ "hold takes no GET", "GET", "/api/matches/1/allocation/seats/101/hold", 405, ROUTE_HOLD, { 0, 0 } },
	{ "nor HEAD", "HEAD", "/api/matches/1/allocation/seats/confirm", 405, ROUTE_CONFIRM, { 0, 0 } },
	{ "methods know upper and lower case", "get", "/healthz", 405, ROUTE_HEALTHZ, { 0, 0 } },
	{ "a beginning of a method is another", "GE", "/healthz", 405, ROUTE_HEALTHZ, { 0, 0 } },
	{ "a list of methods is none", "GET, HEAD", "/healthz", 405, ROUTE_HEALTHZ, { 0, 0 } },
	{ "no method is a wrong one", "", "/healthz", 405, ROUTE_HEALTHZ, { 0, 0 } },
	{ "a wrong method is 405 whatever the ids", "DELETE", "/api/matches/x/blocks/y/seats", 405, ROUTE_SNAPSHOT, { 0, 0 } },

	{ "a malformed first id", "GET", "/api/matches/x/blocks/101/seats", 400, ROUTE_SNAPSHOT, { 0, 0 } },
	{ "a malformed second id", "GET", "/api/matches/1/blocks/-1/seats", 400, ROUTE_SNAPSHOT, { 0, 0 } },
	{ "an empty id", "GET", "/api/site/areas//sections", 400, ROUTE_SECTIONS, { 0, 0 } },
	{ "a malformed id where confirm has none", "POST", "/api/matches/0/allocation/seats/confirm", 400, ROUTE_CONFIRM, { 0, 0 } },
};

START_TEST(find)
{
	const char	*says = find_cases[_i].says;
	int		 status = find_cases[_i].status, got;
	struct route	 r;

	memset(&r, 0xff, sizeof(r));
	got = route_find(find_cases[_i].method, find_cases[_i].path, &r);
	ck_assert_msg(got == status, "%s: %d", says, got);
	if (status != 404)
		ck_assert_msg(r.action == find_cases[_i].action, "%s: action %d", says, (int)r.action);
	if (status == 200)
		ck_assert_msg(r.ids[0] == find_cases[_i].ids[0] && r.ids[1] == find_cases[_i].ids[1] &&
		    r.head == (strcmp(find_cases[_i].method, "HEAD") == 0), "%s", says);
	if (status == 405)
		ck_assert_str_eq(r.allow, find_cases[_i].action == ROUTE_HOLD ||
		    find_cases[_i].action == ROUTE_CONFIRM ? "POST" : "GET, HEAD");
}
END_TEST

static const struct {
	const char	*says, *text;
	int64_t		 id;			/* 0: malformed */
} id_cases[] = {
	{ "the least id", "1", 1 },
	{ "the greatest id", MAX, INT64_MAX },
	{ "one more overflows", "9223372036854775808", 0 },
	{ "ten times as much overflows", "92233720368547758070", 0 },
	{ "2^64 + 1 does not wrap", "18446744073709551617", 0 },
	{ "zero", "0", 0 },
	{ "a leading zero", "01", 0 },
	{ "nothing", "", 0 },
	{ "a minus", "-1", 0 },
	{ "a plus", "+1", 0 },
	{ "a space before", " 1", 0 },
	{ "a space behind", "1 ", 0 },
	{ "hexadecimal", "0x1", 0 },
	{ "an exponent", "1e3", 0 },
	{ "a fraction", "1.0", 0 },
	{ "digits of another script", "\331\241", 0 },
};

START_TEST(ids)
{
	const char	*text = id_cases[_i].text;
	int64_t		 id = 0;
	int		 rc = route_id(text, strlen(text), &id);

	ck_assert_msg(rc == (id_cases[_i].id == 0 ? -1 : 0) && id == id_cases[_i].id, "%s", id_cases[_i].says);
}
END_TEST

START_TEST(an_id_ends_where_its_length_says)
{
	int64_t	 id;

	ck_assert_int_eq(route_id("123/seats", 3, &id), 0);
	ck_assert_int_eq(id, 123);
	ck_assert_int_eq(route_id("1\0002", 3, &id), -1);
}
END_TEST

static const struct {
	const char	*says, *script, *info, *uri;
	const char	*path;			/* NULL: -1 */
} path_cases[] = {
	{ "SCRIPT_NAME alone (nginx)", "/healthz", NULL, "/other", "/healthz" },
	{ "PATH_INFO alone (lighttpd at /)", "", "/healthz", "/other", "/healthz" },
	{ "both are joined", "/api", "/site/areas", NULL, "/api/site/areas" },
	{ "the web server has decoded them", "/a%20b", NULL, NULL, "/a%20b" },
	{ "else REQUEST_URI", NULL, NULL, "/healthz", "/healthz" },
	{ "without its query", "", "", "/healthz?a=/b?c", "/healthz" },
	{ "decoded", NULL, NULL, "/%68ealth%7A%2fx", "/healthz/x" },
	{ "once", NULL, NULL, "/%2568", "/%68" },
	{ "a plus is a plus in a path", NULL, NULL, "/a+b", "/a+b" },
	{ "UTF-8 is passed on", NULL, NULL, "/%c3%a4\303\244", "/\303\244\303\244" },
	{ "without scheme and host", NULL, NULL, "http://example.org:80/healthz?x", "/healthz" },
	{ "scheme in any case", NULL, NULL, "HTTPS://example.org/healthz", "/healthz" },
	{ "a host alone asks for the root", NULL, NULL, "http://example.org", "/" },
	{ "a host and a query as well", NULL, NULL, "http://example.org?a=/b", "/" },
	{ "none at all", NULL, NULL, NULL, NULL },
	{ "nothing at all", "", "", "", NULL },
	{ "a path starts with a slash", "api", NULL, NULL, NULL },
	{ "also in REQUEST_URI", NULL, NULL, "*", NULL },
	{ "%00 is refused", NULL, NULL, "/api/%00", NULL },
	{ "an encoded control byte is refused", NULL, NULL, "/api/%0a", NULL },
	{ "a control byte is refused", "/api/\n", NULL, NULL, NULL },
	{ "DEL is one", NULL, "/api/\177", NULL, NULL },
	{ "an escape cut short", NULL, NULL, "/api/%4", NULL },
	{ "an escape cut short by the query", NULL, NULL, "/api/%4?1", NULL },
	{ "an escape without digits", NULL, NULL, "/api/%zz", NULL },
	{ "a percent at the end", NULL, NULL, "/api/%", NULL },
	{ "31 bytes fit", "/234567890123456789012345678901", NULL, NULL, "/234567890123456789012345678901" },
	{ "32 do not", "/2345678901234567890123456789012", NULL, NULL, NULL },
	{ "joined neither", "/23456789012345678901234567890", "12", NULL, NULL },
	{ "encoded 31 bytes fit", NULL, NULL, "/23456789012345678901234567890%31", "/234567890123456789012345678901" },
	{ "encoded 32 do not", NULL, NULL, "/234567890123456789012345678901%32", NULL },
};

START_TEST(paths)
{
	const char	*says = path_cases[_i].says, *want = path_cases[_i].path;
	char		 path[32];
	int		 rc;

	memset(path, 'x', sizeof(path));
	errno = 0;
	rc = route_path(path_cases[_i].script, path_cases[_i].info, path_cases[_i].uri, path, sizeof(path));
	if (want == NULL)
		ck_assert_msg(rc == -1 && errno == EINVAL, "%s: %.32s", says, path);
	else
		ck_assert_msg(rc == 0 && strcmp(path, want) == 0, "%s: %d %.32s", says, rc, path);
}
END_TEST

static const struct {
	const char	*says, *query;
	const char	*value;			/* NULL: -1 */
} query_cases[] = {
	{ "alone", "lastEventId=5f3a9c1e-41", "5f3a9c1e-41" },
	{ "among others", "a=b&lastEventId=7&c=d", "7" },
	{ "the first counts", "lastEventId=1&lastEventId=2", "1" },
	{ "decoded", "lastEventId=%35f%2D1", "5f-1" },
	{ "a plus is a space", "lastEventId=a+b%2b", "a b+" },
	{ "a value may be empty", "lastEventId=", "" },
	{ "a name without a value has an empty one", "a&lastEventId&b", "" },
	{ "a value may hold an equals sign", "lastEventId=a=b", "a=b" },
	{ "absent", "a=b", NULL },
	{ "no query", NULL, NULL },
	{ "an empty query", "", NULL },
	{ "a longer name is another", "lastEventIds=1", NULL },
	{ "a shorter name is another", "lastEvent=1", NULL },
	{ "a name within another", "xlastEventId=1", NULL },
	{ "a name as a value", "a=lastEventId", NULL },
	{ "names know upper and lower case", "lasteventid=1", NULL },
	{ "a bad escape", "lastEventId=%4", NULL },
	{ "an escape cut short by the next", "lastEventId=%4&1", NULL },
	{ "a NUL", "lastEventId=1%00", NULL },
	{ "15 bytes fit", "lastEventId=123456789012345", "123456789012345" },
	{ "16 do not", "lastEventId=1234567890123456", NULL },
	{ "empty parts do not matter", "&&lastEventId=1&&", "1" },
};

START_TEST(queries)
{
	const char	*says = query_cases[_i].says, *want = query_cases[_i].value;
	char		 value[16];
	int		 rc = route_query(query_cases[_i].query, "lastEventId", value, sizeof(value));

	if (want == NULL)
		ck_assert_msg(rc == -1, "%s: %s", says, value);
	else
		ck_assert_msg(rc == 0 && strcmp(value, want) == 0, "%s: %d %s", says, rc, value);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("route");
	TCase	*tc;

	tc = unit_case(s, "table");
	unit_rows(tc, find, find_cases);
	tc = unit_case(s, "ids");
	unit_rows(tc, ids, id_cases);
	tcase_add_test(tc, an_id_ends_where_its_length_says);
	tc = unit_case(s, "path");
	unit_rows(tc, paths, path_cases);
	tc = unit_case(s, "query");
	unit_rows(tc, queries, query_cases);
	return (unit_main(s));
}
