/* SPDX-License-Identifier: ISC */
/*
 * http - what CGI answers look like: status line, headers, the JSON envelope.
 *
 * One struct for every short answer, so that each has its Content-Type, its
 * Content-Length and nothing forgotten.
 * Runs in: worker, loop (snapshot, refusals).  Pure: no descriptor, clock, log.
 * Source: RFC 3875 section 6 (CGI response), RFC 9110 (status codes, Allow,
 * Retry-After, If-None-Match), SPEC 1 (envelope).
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

const char *http_reason(int status);	/* "Not Found"; "Error" for what we never send */

/*
 * Append a whole answer: "Status: 200 OK", Content-Type, Content-Length (not on
 * 204 and 304), extra header lines ("Name: value\r\n"…, NULL: none), blank line,
 * body (left out when head_only; Content-Length stays that of the body).
 */
void	http_answer(struct buf *b, int status, const char *content_type, const char *extra,
	    const char *body, size_t body_len, bool head_only);

/* Append the answer {"status":404,"message":"…"}; extra as above (Allow, Retry-After). */
void	http_error(struct buf *b, int status, const char *message, const char *extra, bool head_only);

/* Just the envelope's JSON. */
void	http_error_json(struct buf *b, int status, const char *message);

/* A string as JSON, in its quotes: len bytes of UTF-8. */
void	http_json_string(struct buf *b, const char *text, size_t len);

/* The header of a stream (SPEC 2), blank line included; extra as above (CORS). */
void	http_stream_header(struct buf *b, const char *extra);

/*
 * Header lines for a page of another origin: none when allowed (--allow-origin) is
 * NULL, Vary for everybody else, and what lets a browser read the answer when origin
 * (one of them, or "") is given.  Into out, HTTP_CORS_BYTES of room; returns out.
 */
#define HTTP_ORIGIN_BYTES	256	/* with its NUL */
#define HTTP_CORS_BYTES		512
const char *http_cors(char *out, const char *allowed, const char *origin);

/* An entity tag of these bytes, without quotes: the same content has the same tag in every process. */
#define HTTP_ETAG_BYTES	17
void	http_etag(char *out, const void *bytes, size_t len);

/* Does an Accept header name text/event-stream (any case, any parameters, q=0 not)?  Accepts NULL. */
bool	http_accepts_sse(const char *accept);

/* Is it named in these bytes of a request, whole or not, as EventSource writes it?  Accepts NULL with 0. */
bool	http_mentions_sse(const void *bytes, size_t len);

/*
 * Does an If-None-Match list contain this entity tag (given without quotes)?  Weak ones match, "*" matches,
 * and what a compressing server makes of it: "tag-gzip", "tag--gzip", "tag-br"…  Accepts NULL.
 */
bool	http_etag_matches(const char *if_none_match, const char *tag);

#endif
