/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <json-c/json.h>

#include "base/must.h"
#include "wire/http.h"

#define OWS	" \t"		/* RFC 9110, 5.6.3: optional white space */

static const struct {
	int		 status;
	const char	*reason;
} http_reasons[] = {
	{ 200, "OK" },
	{ 204, "No Content" },
	{ 304, "Not Modified" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 413, "Content Too Large" },
	{ 415, "Unsupported Media Type" },
	{ 500, "Internal Server Error" },
	{ 503, "Service Unavailable" },
};

const char *
http_reason(int status)
{
	size_t	 i;

	for (i = 0; i < nitems(http_reasons); i++)
		if (http_reasons[i].status == status)
			return (http_reasons[i].reason);
	return ("Error");
}

void
http_answer(struct buf *b, int status, const char *content_type, const char *extra,
    const char *body, size_t body_len, bool head_only)
{
	bool	 bodyless = (status == 204 || status == 304);

	buf_printf(b, "Status: %d %s\r\n", status, http_reason(status));
	if (content_type != NULL)
		buf_printf(b, "Content-Type: %s\r\n", content_type);
	if (!bodyless)
		buf_printf(b, "Content-Length: %zu\r\n", body_len);
	if (extra != NULL)
		buf_puts(b, extra);
	buf_puts(b, "\r\n");
	if (!bodyless && !head_only)
		buf_add(b, body, body_len);
}

void
http_error(struct buf *b, int status, const char *message, const char *extra, bool head_only)
{
	char		 room[1024];
	struct buf	 body = BUF_INIT, on_stack = BUF_ON(room);

	if (strlen(message) < sizeof(room) / 8)		/* most are short, and need no memory then */
		body = on_stack;
	http_error_json(&body, status, message);
	if (buf_ok(&body))
		http_answer(b, status, "application/json", extra, body.data, body.len, head_only);
	else
		b->failed = true;
	buf_fini(&body);
}

void
http_error_json(struct buf *b, int status, const char *message)
{
	buf_printf(b, "{\"status\":%d,\"message\":", status);
	http_json_string(b, message, strlen(message));
	buf_puts(b, "}");
}

/* Such text is in JSON what it is outside. */
static bool
is_plain(const char *text, size_t len)
{
	for (; len > 0; text++, len--)
		if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\')
			return (false);
	return (true);
}

void
http_json_string(struct buf *b, const char *text, size_t len)
{
	struct json_object	*o = NULL;
	const char		*json;
	size_t			 n;

	if (is_plain(text, len)) {	/* most are, and need no memory then */
		buf_puts(b, "\"");
		buf_add(b, text, len);
		buf_puts(b, "\"");
		return;
	}
	if (len > INT_MAX || (o = json_object_new_string_len(text, (int)len)) == NULL ||
	    (json = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n)) == NULL)
		b->failed = true;
	else
		buf_add(b, json, n);
	json_object_put(o);
}

void
http_stream_header(struct buf *b, const char *extra)
{
	buf_printf(b, "Status: 200 OK\r\n"
	    "Content-Type: text/event-stream; charset=utf-8\r\n"
	    "Cache-Control: no-store, no-transform\r\n"
	    "X-Accel-Buffering: no\r\n"
	    "Incremental: ?1\r\n"
	    "%s\r\n", extra != NULL ? extra : "");
}

const char *
http_cors(char *out, const char *allowed, const char *origin)
{
	out[0] = '\0';
	if (allowed == NULL)
		return (out);
	if (origin == NULL || origin[0] == '\0')
		return (strcpy(out, "Vary: Origin\r\n"));
	snprintf(out, HTTP_CORS_BYTES, "Vary: Origin\r\n"
	    "Access-Control-Allow-Origin: %.*s\r\n"
	    "Access-Control-Allow-Credentials: true\r\n"
	    "Access-Control-Expose-Headers: ETag, Age, As-Of, Retry-After\r\n", HTTP_ORIGIN_BYTES - 1, origin);
	return (out);
}

/* FNV-1a, 64 bits. */
void
http_etag(char *out, const void *bytes, size_t len)
{
	const unsigned char	*p = bytes;
	uint64_t		 hash = UINT64_C(0xcbf29ce484222325);

	while (len-- > 0)
		hash = (hash ^ *p++) * UINT64_C(0x100000001b3);
	snprintf(out, HTTP_ETAG_BYTES, "%016" PRIx64, hash);
}

/* Up to the next of stops outside a quoted string (RFC 9110, 5.6.4), or to the end. */
static size_t
span_unquoted(const char *text, const char *stops)
{
	bool	 quoted = false;
	size_t	 i;

	for (i = 0; text[i] != '\0'; i++) {
		if (text[i] == '"')
			quoted = !quoted;
		else if (quoted && text[i] == '\\' && text[i + 1] != '\0')
			i++;
		else if (!quoted && strchr(stops, text[i]) != NULL)
			break;
	}
	return (i);
}

/* "q=0", "q=0.", "q=0.000", any case: len bytes without white space around. */
static bool
is_q_zero(const char *param, size_t len)
{
	if (len < 3 || strncasecmp(param, "q=0", 3) != 0)
		return (false);
	param += 3;
	len -= 3;
	if (len > 0 && *param == '.') {
		param++;
		len--;
	}
	return (strspn(param, "0") >= len);
}

/* One element of Accept, len bytes: is it text/event-stream, and wanted? */
static bool
range_is_sse(const char *range, size_t len)
{
	static const char	 sse[] = "text/event-stream";
	const char		*end = range + len;
	size_t			 n;

	if (len < sizeof(sse) - 1 || strncasecmp(range, sse, sizeof(sse) - 1) != 0)
		return (false);
	range += sizeof(sse) - 1;
	range += strspn(range, OWS);
	if (range < end && *range != ';')
		return (false);		/* text/event-streamer */
	while (range < end) {
		range++;		/* the ';' */
		range += strspn(range, OWS);
		if (range >= end)
			break;
		n = span_unquoted(range, ";,");
		if (is_q_zero(range, strcspn(range, OWS ";,")))
			return (false);
		range += n;
	}
	return (true);
}

bool
http_accepts_sse(const char *accept)
{
	size_t	 n;

	if (accept == NULL)
		return (false);
	while (*accept != '\0') {
		accept += strspn(accept, OWS ",");
		n = span_unquoted(accept, ",");
		if (range_is_sse(accept, n))
			return (true);
		accept += n;
	}
	return (false);
}

bool
http_mentions_sse(const void *bytes, size_t len)
{
	static const char sse[] = "text/event-stream";

	return (len > 0 && memmem(bytes, len, sse, sizeof(sse) - 1) != NULL);
}

/* What a server that compresses puts behind a tag: "-gzip" (Apache, lighttpd), "--gzip" (Jetty). */
static bool
is_coding(const char *text, size_t len)
{
	static const char *const codings[] = { "gzip", "br", "deflate", "zstd", "bzip2", "x-gzip", "x-bzip2" };
	size_t	 i;

	if (len == 0 || *text != '-')
		return (false);
	text++;
	len--;
	if (len > 0 && *text == '-') {
		text++;
		len--;
	}
	for (i = 0; i < nitems(codings); i++)
		if (strlen(codings[i]) == len && memcmp(codings[i], text, len) == 0)
			return (true);
	return (false);
}

static bool
is_tag(const char *text, size_t len, const char *tag)
{
	size_t	 tag_len = strlen(tag);

	return (len >= tag_len && memcmp(text, tag, tag_len) == 0 &&
	    (len == tag_len || is_coding(text + tag_len, len - tag_len)));
}

/* Weak comparison (RFC 9110, 8.8.3.2), as If-None-Match asks for. */
bool
http_etag_matches(const char *if_none_match, const char *tag)
{
	const char	*p = if_none_match, *close;

	if (p == NULL)
		return (false);
	p += strspn(p, OWS);
	if (*p == '*')
		return (p[1 + strspn(p + 1, OWS)] == '\0');
	for (;;) {
		p += strspn(p, OWS ",");
		if (strncmp(p, "W/", 2) == 0)
			p += 2;
		if (*p != '"' || (close = strchr(p + 1, '"')) == NULL)
			return (false);		/* the end, or no list of tags */
		p++;
		if (is_tag(p, (size_t)(close - p), tag))
			return (true);
		p = close + 1;
	}
}
