/* SPDX-License-Identifier: ISC */
/*
 * fcgi - FastCGI 1.0 records as bytes: judge a request, encode an answer.
 *
 * libfcgi must never wait for bytes nor see hostile ones, so fcgi_scan reads along
 * as they come and says when they are one whole, well-formed request.  The same
 * bytes give the same answer, in however many pieces they come, and any prefix of
 * a good request is FCGI_MORE.
 * Runs in: worker (scan), loop and worker (encode).  Pure: no descriptor, no
 * clock, no log.  All memory is the caller's.
 * Source: FastCGI Specification 1.0, sections 3.3 (records), 3.4 (name-value
 * pairs), 5 (application record types), 8 (constants: <fastcgi.h>).
 */
#ifndef FCGI_H
#define FCGI_H

#include <fastcgi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FCGI_MAX_PARAMS_BYTES	(128 * 1024)	/* all PARAMS content of a request */
#define FCGI_MAX_BODY_BYTES	(16 * 1024)	/* STDIN content: SPEC 1, 413 */
#define FCGI_MAX_REQUEST_BYTES	(192 * 1024)	/* everything, headers and padding included */
#define FCGI_MAX_CONTENT	8184		/* content we put in one record: 8 KiB with its header */
#define FCGI_END_BYTES		24		/* empty STDOUT + END_REQUEST */

enum fcgi_verdict {
	FCGI_MORE,		/* fine so far, not whole yet */
	FCGI_WHOLE,		/* BEGIN + PARAMS + STDIN, complete: libfcgi may have it */
	FCGI_BAD,		/* not FastCGI, or a form that libfcgi mishandles: close */
	FCGI_BAD_ROLE,		/* AUTHORIZER, FILTER or unknown: END_REQUEST(UNKNOWN_ROLE) */
	FCGI_BAD_PARAM,		/* a NUL byte in a name or value: 400 */
	FCGI_BIG_PARAMS,	/* more than FCGI_MAX_PARAMS_BYTES: 400 */
	FCGI_BIG_BODY,		/* STDIN or CONTENT_LENGTH over FCGI_MAX_BODY_BYTES: 413 */
	FCGI_MANAGEMENT		/* a management record first: answer or close, never libfcgi */
};

/* Where in the stream of name-value pairs a scan is (3.4); record boundaries do not matter to it. */
struct fcgi_pairs {
	uint8_t		stage;
	uint8_t		len_bytes_left;	/* of a four-byte length */
	uint8_t		body;		/* what CONTENT_LENGTH said */
	bool		is_length;	/* the name so far is that of CONTENT_LENGTH */
	uint32_t	len;		/* of a four-byte length, so far */
	size_t		name_len, value_len;
	size_t		pos;		/* in the name, or in the value */
	size_t		body_len;	/* the value of CONTENT_LENGTH so far */
};

/* Where in a request a scan is; all 0 at its beginning.  Fields are fcgi_scan's, but for two to be read. */
struct fcgi_scan {
	uint16_t	request_id;	/* 0 until BEGIN_REQUEST was seen */
	const char	*why;		/* static text for the log, once it is refused; NULL before */
	uint8_t		stage;
	uint8_t		padding;	/* of this record */
	unsigned char	header[FCGI_HEADER_LEN];
	size_t		pos;		/* in this record, header and padding included */
	size_t		at;		/* where this record starts */
	size_t		content_len;	/* of this record */
	size_t		params_bytes;	/* content of PARAMS, this record included */
	size_t		body_bytes;	/* content of STDIN, this record included */
	struct fcgi_pairs pairs;
};

/*
 * Judge the next len bytes of a connection, in any number of pieces; after another
 * verdict than FCGI_MORE the scan is over.  *used_r: how many of the bytes belong to
 * the request.  Refuses what libfcgi 2.4.2 gets wrong though it is legal: padding on
 * BEGIN_REQUEST or on the empty PARAMS.  Records of another request id than BEGIN's
 * are FCGI_BAD; so is ABORT_REQUEST.
 */
enum fcgi_verdict fcgi_scan(struct fcgi_scan *s, const void *bytes, size_t len, size_t *used_r);

/* Does what came after the request begin with ABORT_REQUEST (FastCGI 1.0, 5.4)? */
bool	fcgi_is_abort(const void *buf, size_t len);

/* Bytes that fcgi_stdout writes for len bytes of content: records of at most FCGI_MAX_CONTENT. */
size_t	fcgi_stdout_bytes(size_t len);

/*
 * Frame len (> 0) bytes of content as STDOUT records for request_id into out,
 * which has room for fcgi_stdout_bytes(len).  Returns the bytes written.
 */
size_t	fcgi_stdout(void *out, uint16_t request_id, const void *content, size_t len);

/* The polite end: empty STDOUT + END_REQUEST(protocol_status: FCGI_REQUEST_COMPLETE, …), FCGI_END_BYTES into out. */
void	fcgi_end(void *out, uint16_t request_id, uint8_t protocol_status);

/* Give framed records (whole ones) another request id, in place. */
void	fcgi_readdress(void *records, size_t len, uint16_t request_id);

/* Human name of a verdict, static: for logs and tests. */
const char *fcgi_verdict_name(enum fcgi_verdict v);

#endif
