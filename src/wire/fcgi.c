/* SPDX-License-Identifier: ISC */
/*
 * The scan reads the stream once, from left to right, and stops at the first
 * byte that decides; bytes that can't are skipped together.  What it says about a byte depends on
 * the bytes before it only, never on how many happen to have come.  Hence the
 * two promises of the header: a verdict other than FCGI_MORE stays the same
 * whatever follows, and a prefix of a good request is FCGI_MORE.  For the same
 * reason nothing that a length announces is ever waited for or added up: a
 * length over what is allowed is refused where it stands.
 *
 * A record's header (3.3) is 8 bytes: version, type, request id (2), content
 * length (2), padding length, reserved.  Content of PARAMS is a stream of
 * name-value pairs (3.4) that takes no notice of record boundaries: length of
 * the name, length of the value (1 byte, or 4 with the highest bit set), name,
 * value.  So the reader of pairs has a state of its own (struct fcgi_pairs), which
 * outlives records.
 */
#include <string.h>

#include "base/must.h"
#include "wire/fcgi.h"

#define BEGIN_BODY_BYTES	sizeof(FCGI_BeginRequestBody)

/* Which parameter this is: only its name's first bytes matter. */
static const char	 length_name[] = "CONTENT_LENGTH";
#define LENGTH_NAME_LEN	(sizeof(length_name) - 1)

enum pair_stage { PAIR_NAME_LEN, PAIR_VALUE_LEN, PAIR_NAME, PAIR_VALUE };
enum body_length { LENGTH_FINE, LENGTH_MINUS, LENGTH_MALFORMED, LENGTH_TOO_BIG };

enum scan_stage { SCAN_BEGIN, SCAN_PARAMS, SCAN_STDIN };

static enum fcgi_verdict
refuse(struct fcgi_scan *s, enum fcgi_verdict v, const char *why)
{
	s->why = why;
	return (v);
}

/* The type (byte 1 of a header) fits where we are. */
static enum fcgi_verdict
type_byte(struct fcgi_scan *s, unsigned type)
{
	if (s->stage == SCAN_BEGIN)	/* the id tells whether it is a management record */
		return (FCGI_MORE);
	if (type == FCGI_ABORT_REQUEST)
		return (refuse(s, FCGI_BAD, "aborted by the web server"));
	if (s->stage == SCAN_PARAMS && type != FCGI_PARAMS)
		return (refuse(s, FCGI_BAD, "another record than PARAMS before the end of PARAMS"));
	if (s->stage == SCAN_STDIN && type != FCGI_STDIN)
		return (refuse(s, FCGI_BAD, "another record than STDIN before the end of STDIN"));
	return (FCGI_MORE);
}

/* The request id (bytes 2 and 3). */
static enum fcgi_verdict
id_bytes(struct fcgi_scan *s, unsigned type, unsigned id)
{
	if (s->stage != SCAN_BEGIN)
		return (id == s->request_id ? FCGI_MORE :
		    refuse(s, FCGI_BAD, "a record of another request"));
	if (id == 0 && type >= FCGI_GET_VALUES)	/* what is above is management too */
		return (refuse(s, FCGI_MANAGEMENT, "a management record"));
	if (type != FCGI_BEGIN_REQUEST)
		return (refuse(s, FCGI_BAD, "the first record is not BEGIN_REQUEST"));
	if (id == 0)
		return (refuse(s, FCGI_BAD, "BEGIN_REQUEST with request id 0"));
	return (FCGI_MORE);
}

/* The content length (bytes 4 and 5), with the limits on what a request may hold. */
static enum fcgi_verdict
length_bytes(struct fcgi_scan *s, size_t len)
{
	s->content_len = len;
	switch ((enum scan_stage)s->stage) {
	case SCAN_BEGIN:
		if (len != BEGIN_BODY_BYTES)
			return (refuse(s, FCGI_BAD, "BEGIN_REQUEST not of 8 bytes"));
		break;
	case SCAN_PARAMS:
		s->params_bytes += len;
		if (s->params_bytes > FCGI_MAX_PARAMS_BYTES)
			return (refuse(s, FCGI_BIG_PARAMS, "PARAMS too long"));
		break;
	case SCAN_STDIN:
		s->body_bytes += len;
		if (s->body_bytes > FCGI_MAX_BODY_BYTES)
			return (refuse(s, FCGI_BIG_BODY, "body too long"));
		break;
	}
	return (FCGI_MORE);
}

/* The padding length (byte 6): libfcgi 2.4.2 loses its place at two legal ones. */
static enum fcgi_verdict
padding_byte(struct fcgi_scan *s, unsigned padding)
{
	s->padding = (uint8_t)padding;
	if (s->stage == SCAN_BEGIN && padding != 0)
		return (refuse(s, FCGI_BAD, "padding on BEGIN_REQUEST"));
	if (s->stage == SCAN_PARAMS && s->content_len == 0 && padding != 0)
		return (refuse(s, FCGI_BAD, "padding on the empty PARAMS"));
	if (s->at + FCGI_HEADER_LEN + s->content_len + padding > FCGI_MAX_REQUEST_BYTES)
		return (refuse(s, FCGI_BAD, "request too long with its headers and padding"));
	return (FCGI_MORE);
}

/* Byte i of the record header h, all before it judged. */
static enum fcgi_verdict
header_byte(struct fcgi_scan *s, const unsigned char *h, size_t i)
{
	switch (i) {
	case 0:
		if (h[0] != FCGI_VERSION_1)
			return (refuse(s, FCGI_BAD, "not FastCGI version 1"));
		return (FCGI_MORE);
	case 1:
		return (type_byte(s, h[1]));
	case 3:
		return (id_bytes(s, h[1], (unsigned)h[2] << 8 | h[3]));
	case 5:
		return (length_bytes(s, (size_t)h[4] << 8 | h[5]));
	case 6:
		return (padding_byte(s, h[6]));
	case 7:
		if (s->stage == SCAN_BEGIN)
			s->request_id = (uint16_t)(h[2] << 8 | h[3]);
		return (FCGI_MORE);
	default:		/* the first of two bytes */
		return (FCGI_MORE);
	}
}

/* A length is known: keep it and go on to what it is followed by. */
static enum fcgi_verdict
pair_length(struct fcgi_scan *s, size_t len)
{
	struct fcgi_pairs	*p = &s->pairs;

	if (len > FCGI_MAX_PARAMS_BYTES)
		return (refuse(s, FCGI_BIG_PARAMS, "a parameter too long"));
	if (p->stage == PAIR_NAME_LEN) {
		if (len == 0)
			return (refuse(s, FCGI_BAD, "a parameter without a name"));
		p->name_len = len;
		p->stage = PAIR_VALUE_LEN;
		return (FCGI_MORE);
	}
	p->value_len = len;
	p->pos = 0;
	p->is_length = (p->name_len == LENGTH_NAME_LEN);
	p->body_len = 0;
	p->stage = PAIR_NAME;
	return (FCGI_MORE);
}

/* A byte of one of the two lengths of a pair. */
static enum fcgi_verdict
pair_length_byte(struct fcgi_scan *s, unsigned byte)
{
	struct fcgi_pairs	*p = &s->pairs;

	if (p->len_bytes_left == 0) {
		if ((byte & 0x80) == 0)
			return (pair_length(s, byte));
		p->len = byte & 0x7f;
		p->len_bytes_left = 3;
		return (FCGI_MORE);
	}
	p->len = p->len << 8 | byte;	/* 31 bits at most */
	if (--p->len_bytes_left > 0)
		return (FCGI_MORE);
	return (pair_length(s, p->len));
}

/*
 * A byte of the value of CONTENT_LENGTH.  What is wrong is told at the end of
 * PARAMS.  A value without any byte (nginx sends that with a GET, and with a body
 * that it does not buffer) is none, and so is "-1" (Caddy).
 */
static void
body_length_byte(struct fcgi_pairs *p, unsigned byte)
{
	if (p->body == LENGTH_FINE && byte == '-' && p->pos == 0 && p->value_len == 2)
		p->body = LENGTH_MINUS;
	else if (p->body == LENGTH_MINUS)
		p->body = byte == '1' ? LENGTH_FINE : LENGTH_MALFORMED;
	else if (byte < '0' || byte > '9')
		p->body = LENGTH_MALFORMED;
	else if (p->body_len <= FCGI_MAX_BODY_BYTES)	/* else it can only grow */
		p->body_len = p->body_len * 10 + (byte - '0');
	if (p->body == LENGTH_FINE && p->body_len > FCGI_MAX_BODY_BYTES)
		p->body = LENGTH_TOO_BIG;
}

/* One byte of PARAMS content. */
static enum fcgi_verdict
pairs_byte(struct fcgi_scan *s, unsigned byte)
{
	struct fcgi_pairs	*p = &s->pairs;

	if (p->stage == PAIR_NAME_LEN || p->stage == PAIR_VALUE_LEN)
		return (pair_length_byte(s, byte));
	if (byte == '\0')
		return (refuse(s, FCGI_BAD_PARAM, "a NUL byte in a parameter"));
	if (p->stage == PAIR_NAME) {
		if (p->is_length && byte != (unsigned char)length_name[p->pos])
			p->is_length = false;
		if (++p->pos < p->name_len)
			return (FCGI_MORE);
		p->pos = 0;
		p->stage = PAIR_VALUE;
		if (p->value_len == 0)
			p->stage = PAIR_NAME_LEN;
		return (FCGI_MORE);
	}
	if (p->is_length)
		body_length_byte(p, byte);
	if (++p->pos == p->value_len)
		p->stage = PAIR_NAME_LEN;
	return (FCGI_MORE);
}

/* How many of n bytes only go on with a name or a value that says nothing to us: neither its last one nor a NUL is among them. */
static size_t
pairs_run(const struct fcgi_pairs *p, const unsigned char *c, size_t n)
{
	size_t			 left;
	const unsigned char	*nul;

	if (p->is_length || (p->stage != PAIR_NAME && p->stage != PAIR_VALUE))
		return (0);
	left = (p->stage == PAIR_NAME ? p->name_len : p->value_len) - p->pos - 1;
	if (n > left)
		n = left;
	nul = memchr(c, '\0', n);
	return (nul != NULL ? (size_t)(nul - c) : n);
}

static enum fcgi_verdict
pairs_bytes(struct fcgi_scan *s, const unsigned char *c, size_t n)
{
	enum fcgi_verdict	 v = FCGI_MORE;
	size_t			 i, run;

	for (i = 0; i < n && v == FCGI_MORE;) {
		run = pairs_run(&s->pairs, c + i, n - i);
		s->pairs.pos += run;
		if ((i += run) < n)
			v = pairs_byte(s, c[i++]);
	}
	return (v);
}

/* n bytes of this record's content, from offset on. */
static enum fcgi_verdict
content_bytes(struct fcgi_scan *s, const unsigned char *c, size_t n, size_t offset)
{
	enum fcgi_verdict	 v = FCGI_MORE;
	size_t			 i;

	switch ((enum scan_stage)s->stage) {
	case SCAN_BEGIN:	/* role (2), flags (1), reserved (5) */
		for (i = 0; i < n && offset + i < 2 && v == FCGI_MORE; i++)
			if (c[i] != (offset + i == 0 ? 0 : FCGI_RESPONDER))
				v = refuse(s, FCGI_BAD_ROLE, "not the role of a responder");
		break;
	case SCAN_PARAMS:
		v = pairs_bytes(s, c, n);
		break;
	case SCAN_STDIN:	/* anything */
		break;
	}
	return (v);
}

/* PARAMS is complete. */
static enum fcgi_verdict
params_end(struct fcgi_scan *s)
{
	if (s->pairs.stage != PAIR_NAME_LEN || s->pairs.len_bytes_left > 0)
		return (refuse(s, FCGI_BAD, "PARAMS ends within a parameter"));
	if (s->pairs.body == LENGTH_MALFORMED)
		return (refuse(s, FCGI_BAD_PARAM, "CONTENT_LENGTH is not a number"));
	if (s->pairs.body == LENGTH_TOO_BIG)
		return (refuse(s, FCGI_BIG_BODY, "body too long"));
	s->stage = SCAN_STDIN;
	return (FCGI_MORE);
}

/* This record is complete, padding included; the next starts at s->at. */
static enum fcgi_verdict
record_end(struct fcgi_scan *s)
{
	enum fcgi_verdict	 v = FCGI_MORE;

	if (s->stage == SCAN_BEGIN)
		s->stage = SCAN_PARAMS;
	else if (s->content_len == 0 && s->stage == SCAN_STDIN)
		return (FCGI_WHOLE);
	else if (s->content_len == 0)
		v = params_end(s);
	if (v == FCGI_MORE && s->at + FCGI_HEADER_LEN > FCGI_MAX_REQUEST_BYTES)
		v = refuse(s, FCGI_BAD, "request too long with its headers and padding");
	return (v);
}

/* The next bytes of this record, at most n.  *used_r: how many. */
static enum fcgi_verdict
record_bytes(struct fcgi_scan *s, const unsigned char *bytes, size_t n, size_t *used_r)
{
	size_t	offset, left;

	*used_r = 1;
	if (s->pos < FCGI_HEADER_LEN) {
		s->header[s->pos] = bytes[0];
		return (header_byte(s, s->header, s->pos));
	}
	offset = s->pos - FCGI_HEADER_LEN;
	left = offset < s->content_len ? s->content_len - offset : s->content_len + s->padding - offset;
	*used_r = n < left ? n : left;
	return (offset < s->content_len ? content_bytes(s, bytes, *used_r, offset) : FCGI_MORE);
}

enum fcgi_verdict
fcgi_scan(struct fcgi_scan *s, const void *bytes, size_t len, size_t *used_r)
{
	const unsigned char	*from = bytes;
	enum fcgi_verdict	 v = FCGI_MORE;
	size_t			 n;

	for (*used_r = 0; *used_r < len && v == FCGI_MORE; *used_r += n) {
		v = record_bytes(s, from + *used_r, len - *used_r, &n);
		s->pos += n;
		if (v != FCGI_MORE || s->pos < FCGI_HEADER_LEN + s->content_len + s->padding)
			continue;
		s->at += s->pos;
		s->pos = 0;
		v = record_end(s);
	}
	return (v);
}

bool
fcgi_is_abort(const void *buf, size_t len)
{
	const unsigned char *h = buf;

	return (len >= FCGI_HEADER_LEN && h[0] == FCGI_VERSION_1 && h[1] == FCGI_ABORT_REQUEST);
}

size_t
fcgi_stdout_bytes(size_t len)
{
	size_t	 records = len / FCGI_MAX_CONTENT + (len % FCGI_MAX_CONTENT != 0);

	return (len + records * FCGI_HEADER_LEN);
}

/* A record's header, without padding. */
static void
put_header(unsigned char *out, unsigned type, uint16_t request_id, size_t content_len)
{
	out[0] = FCGI_VERSION_1;
	out[1] = (unsigned char)type;
	out[2] = (unsigned char)(request_id >> 8);
	out[3] = (unsigned char)(request_id & 0xff);
	out[4] = (unsigned char)(content_len >> 8);
	out[5] = (unsigned char)(content_len & 0xff);
	out[6] = 0;
	out[7] = 0;
}

size_t
fcgi_stdout(void *out, uint16_t request_id, const void *content, size_t len)
{
	const unsigned char	*from = content;
	unsigned char		*to = out;
	size_t			 n;

	must(len > 0);		/* an empty STDOUT record would end the stream */
	for (; len > 0; len -= n) {
		n = len < FCGI_MAX_CONTENT ? len : FCGI_MAX_CONTENT;
		put_header(to, FCGI_STDOUT, request_id, n);
		memcpy(to + FCGI_HEADER_LEN, from, n);
		to += FCGI_HEADER_LEN + n;
		from += n;
	}
	return ((size_t)(to - (unsigned char *)out));
}

void
fcgi_end(void *out, uint16_t request_id, uint8_t protocol_status)
{
	unsigned char	*to = out;

	memset(to, 0, FCGI_END_BYTES);	/* appStatus (4) and reserved (3) are 0 */
	put_header(to, FCGI_STDOUT, request_id, 0);
	to += FCGI_HEADER_LEN;
	put_header(to, FCGI_END_REQUEST, request_id, 8);
	to[FCGI_HEADER_LEN + 4] = protocol_status;
}

void
fcgi_readdress(void *records, size_t len, uint16_t request_id)
{
	unsigned char	*h = records;
	size_t		 bytes;

	while (len > 0) {
		must(len >= FCGI_HEADER_LEN && h[0] == FCGI_VERSION_1);
		bytes = FCGI_HEADER_LEN + ((size_t)h[4] << 8 | h[5]) + h[6];
		must(bytes <= len);
		h[2] = (unsigned char)(request_id >> 8);
		h[3] = (unsigned char)(request_id & 0xff);
		h += bytes;
		len -= bytes;
	}
}

const char *
fcgi_verdict_name(enum fcgi_verdict v)
{
	static const char *const names[] = {
		[FCGI_MORE]		= "more",
		[FCGI_WHOLE]		= "whole",
		[FCGI_BAD]		= "bad",
		[FCGI_BAD_ROLE]		= "bad role",
		[FCGI_BAD_PARAM]	= "bad parameter",
		[FCGI_BIG_PARAMS]	= "big parameters",
		[FCGI_BIG_BODY]		= "big body",
		[FCGI_MANAGEMENT]	= "management record",
	};

	must((size_t)v < nitems(names));
	return (names[v]);
}
