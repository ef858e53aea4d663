/* SPDX-License-Identifier: ISC */
/*
 * http: answers to the byte, and the two request headers that decide something.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "wire/http.h"

static const struct {
	const char	*says;
	int		 status;
	const char	*type, *extra, *body;
	bool		 head;
	const char	*bytes;
} answer_cases[] = {
	{ "an answer has status, type, length and body", 200, "text/plain", NULL, "ok", false,
	    "Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok" },
	{ "HEAD is told the length of the body that it does not get", 200, "text/plain", NULL, "ok", true,
	    "Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n" },
	{ "an empty body has length 0", 200, "text/plain", NULL, "", false,
	    "Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n" },
	{ "204 has neither length nor body", 204, NULL, NULL, "", false, "Status: 204 No Content\r\n\r\n" },
	{ "304 has neither, but its ETag", 304, NULL, "ETag: \"a-1\"\r\n", "", false,
	    "Status: 304 Not Modified\r\nETag: \"a-1\"\r\n\r\n" },
	{ "304 leaves out a body that is given", 304, NULL, NULL, "ok", false, "Status: 304 Not Modified\r\n\r\n" },
	{ "more headers stand before the blank line", 200, "text/plain", "A: b\r\nC: d\r\n", "ok", false,
	    "Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nA: b\r\nC: d\r\n\r\nok" },
	{ "a status without a name has one all the same", 418, "text/plain", NULL, "", false,
	    "Status: 418 Error\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n" },
};

START_TEST(answers)
{
	const char	*body = answer_cases[_i].body, *want = answer_cases[_i].bytes;
	struct buf	 b = BUF_INIT;

	http_answer(&b, answer_cases[_i].status, answer_cases[_i].type, answer_cases[_i].extra, body,
	    strlen(body), answer_cases[_i].head);
	ck_assert(buf_ok(&b));
	unit_same_bytes(answer_cases[_i].says, b.data, b.len, want, strlen(want));
	buf_fini(&b);
}
END_TEST

static const struct {
	const char	*says;
	int		 status;
	const char	*message, *extra;
	bool		 head;
	const char	*bytes;
} error_cases[] = {
	{ "an error is the envelope", 404, "no such match", NULL, false,
	    "Status: 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n"
	    "{\"status\":404,\"message\":\"no such match\"}" },
	{ "405 comes with Allow", 405, "no", "Allow: GET, HEAD\r\n", false,
	    "Status: 405 Method Not Allowed\r\nContent-Type: application/json\r\nContent-Length: 29\r\n"
	    "Allow: GET, HEAD\r\n\r\n{\"status\":405,\"message\":\"no\"}" },
	{ "HEAD gets no envelope", 404, "no", NULL, true,
	    "Status: 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 29\r\n\r\n" },
	{ "a message is escaped", 400, "\"\\/\n", NULL, false,
	    "Status: 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n"
	    "{\"status\":400,\"message\":\"\\\"\\\\/\\n\"}" },
};

START_TEST(errors)
{
	const char	*want = error_cases[_i].bytes;
	struct buf	 b = BUF_INIT;

	http_error(&b, error_cases[_i].status, error_cases[_i].message, error_cases[_i].extra,
	    error_cases[_i].head);
	ck_assert(buf_ok(&b));
	unit_same_bytes(error_cases[_i].says, b.data, b.len, want, strlen(want));
	buf_fini(&b);
}
END_TEST

START_TEST(every_status_of_the_interface_has_its_name)
{
	static const int	 statuses[] = { 200, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 503 };
	size_t			 i;

	for (i = 0; i < nitems(statuses); i++)
		ck_assert_str_ne(http_reason(statuses[i]), "Error");
}
END_TEST

START_TEST(a_stream_header_forbids_caching_and_buffering)
{
	static const char	 want[] = "Status: 200 OK\r\n"
	    "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store, no-transform\r\n"
	    "X-Accel-Buffering: no\r\nIncremental: ?1\r\n\r\n";
	struct buf		 b = BUF_INIT;

	http_stream_header(&b, NULL);
	unit_same_bytes("the stream's header", b.data, b.len, want, sizeof(want) - 1);
	buf_reset(&b);
	http_stream_header(&b, "A: b\r\n");
	ck_assert_ptr_nonnull(strstr(b.data, "Incremental: ?1\r\nA: b\r\n\r\n"));
	buf_fini(&b);
}
END_TEST

START_TEST(another_origin_is_answered_by_name_and_never_with_a_star)
{
	char	 out[HTTP_CORS_BYTES], longest[HTTP_ORIGIN_BYTES];

	ck_assert_str_eq(http_cors(out, NULL, "https://a.example"), "");
	ck_assert_str_eq(http_cors(out, "https://a.example", ""), "Vary: Origin\r\n");
	ck_assert_str_eq(http_cors(out, "https://a.example", "https://a.example"), "Vary: Origin\r\n"
	    "Access-Control-Allow-Origin: https://a.example\r\nAccess-Control-Allow-Credentials: true\r\n"
	    "Access-Control-Expose-Headers: ETag, Age, As-Of, Retry-After\r\n");
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_str_eq(http_cors(out, "x", longest) + strlen(out) - strlen("Retry-After\r\n"), "Retry-After\r\n");
}
END_TEST

START_TEST(a_tag_is_of_the_content_alone)
{
	char	 a[HTTP_ETAG_BYTES], b[HTTP_ETAG_BYTES];

	http_etag(a, "", 0);
	ck_assert_str_eq(a, "cbf29ce484222325");
	http_etag(a, "a", 1);
	ck_assert_str_eq(a, "af63dc4c8601ec8c");		/* FNV's own test vector */
	http_etag(b, "b", 1);
	ck_assert_str_ne(a, b);
}
END_TEST

static const struct {
	const char	*says, *accept;
	bool		 yes;
} accept_cases[] = {
	{ "EventSource sends it alone", "text/event-stream", true },
	{ "among others", "text/html, text/event-stream;q=0.9 , */*;q=0.1", true },
	{ "in any case", "Text/Event-Stream", true },
	{ "with parameters", "text/event-stream; charset=utf-8", true },
	{ "with white space", " \ttext/event-stream \t", true },
	{ "white space before a parameter", "text/event-stream ;charset=utf-8", true },
	{ "q=0.001 is more than nothing", "text/event-stream;q=0.001", true },
	{ "q=1 is all", "text/event-stream;q=1", true },
	{ "an empty element does not matter", ",, text/event-stream", true },
	{ "an empty parameter neither", "text/event-stream;", true },
	{ "a quoted comma separates nothing", "text/html;a=\"x,y\", text/event-stream", true },
	{ "nor does one after a quoted quote", "text/html;a=\"x\\\",y\", text/event-stream", true },
	{ "a quoted q=0 is not one", "text/event-stream;a=\";q=0\"", true },
	{ "wanted once is wanted", "text/event-stream;q=0, text/event-stream", true },
	{ "no header names nothing", NULL, false },
	{ "an empty one neither", "", false },
	{ "anything is not named", "*/*", false },
	{ "text/* is not named", "text/*", false },
	{ "q=0 is not wanted", "text/event-stream;q=0", false },
	{ "however many zeros", "text/event-stream; charset=utf-8; Q=0.000", false },
	{ "nor with white space behind", "text/event-stream;q=0 , text/html", false },
	{ "a longer name is another", "text/event-streams", false },
	{ "a name within another is not it", "x-text/event-stream", false },
	{ "nor within quotes", "text/html;a=\"b, text/event-stream\"", false },
	{ "nor as a value", "text/html;a=text/event-stream", false },
	{ "a quoted quote ends no string", "text/html;a=\"x\\\", text/event-stream, y\"", false },
	{ "neither is a q that is short", "text/event-stream;q, */*", true },
	{ "q=0x is no number", "text/event-stream;q=0x", true },
	{ "a quote without end swallows the rest", "a=\", text/event-stream", false },
	{ "a backslash at the end is no end", "text/html;a=\"\\", false },
};

START_TEST(accepts)
{
	ck_assert_msg(http_accepts_sse(accept_cases[_i].accept) == accept_cases[_i].yes, "%s",
	    accept_cases[_i].says);
}
END_TEST

static const struct {
	const char	*says, *header;
	bool		 yes;
} etag_cases[] = {
	{ "Apache's compressed one", "\"a-1-gzip\"", true },
	{ "made weak as well", "W/\"a-1-gzip\"", true },
	{ "with two hyphens", "\"a-1--gzip\"", true },
	{ "brotli", "\"x\", \"a-1-br\"", true },
	{ "a longer tag is another", "\"a-1-gz\"", false },
	{ "a coding alone is no tag", "\"-gzip\"", false },
	{ "a hyphen is no coding", "\"a-1-\"", false },
	{ "the tag alone", "\"a-1\"", true },
	{ "a weak one", "W/\"a-1\"", true },
	{ "among others", "\"b\", W/\"c\" ,\"a-1\"", true },
	{ "without white space", "\"b\",\"a-1\"", true },
	{ "anything", "*", true },
	{ "anything, spaced", " * ", true },
	{ "white space around", " \t\"a-1\" ", true },
	{ "a comma is a part of a tag", "\"x,y\", \"a-1\"", true },
	{ "no header", NULL, false },
	{ "an empty header", "", false },
	{ "another tag", "\"a-2\"", false },
	{ "a longer one", "\"a-10\"", false },
	{ "a shorter one", "\"a-\"", false },
	{ "without quotes", "a-1", false },
	{ "without a second quote", "\"a-1", false },
	{ "tags know upper and lower case", "\"A-1\"", false },
	{ "a star among others is no star", "*, \"a-1\"", false },
	{ "a tag within a tag", "\"x, \"a-1\", y\"", false },
};

START_TEST(etags)
{
	ck_assert_msg(http_etag_matches(etag_cases[_i].header, "a-1") == etag_cases[_i].yes, "%s",
	    etag_cases[_i].says);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("http");
	TCase	*tc;

	tc = unit_case(s, "answers");
	unit_rows(tc, answers, answer_cases);
	unit_rows(tc, errors, error_cases);
	tcase_add_test(tc, every_status_of_the_interface_has_its_name);
	tcase_add_test(tc, a_stream_header_forbids_caching_and_buffering);
	tcase_add_test(tc, another_origin_is_answered_by_name_and_never_with_a_star);
	tcase_add_test(tc, a_tag_is_of_the_content_alone);
	tc = unit_case(s, "headers");
	unit_rows(tc, accepts, accept_cases);
	unit_rows(tc, etags, etag_cases);
	return (unit_main(s));
}
