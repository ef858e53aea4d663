/* SPDX-License-Identifier: ISC */
/*
 * fuzz libfcgi: what the examiner calls whole says to libfcgi what it says to
 * us.  An input is any bytes after a byte that is even; after an odd one it is a
 * recipe for a request that is whole: names, values and a body, cut into records
 * of any length.  The worker's own reading (request_new) gets the bytes.  What must
 * hold: libfcgi reports no error, and its parameters, in their order, and its
 * stdin are those that a plain reading of the records gives.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mono.h"
#include "base/must.h"
#include "shared/board.h"
#include "wire/fcgi.h"
#include "worker/answer.h"
#include "worker/complaint.h"
#include "worker/request.h"

#define RECORD_BEGIN	1
#define RECORD_STDIN	5

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* The request as we read it: "NAME=VALUE" and a NUL for each parameter, and the body. */
static struct {
	struct buf	 params, body;
	size_t		 dispatched;
} want;

/* ---- what a worker has around its reading, of which nothing is needed here ---- */

void	board_add(struct board_slot *s, enum board_value v, int64_t n) { (void)s; (void)v; (void)n; }
void	complain(const struct board *b, struct board_slot *s, const struct db_answer *a) { (void)b; (void)s; (void)a; }
void	db_cancel(struct db_query *q) { (void)q; }
void	db_submit(struct db *d, struct db_query *q) { (void)d; (void)q; }
void	exists_forget(struct exists_asker *a) { (void)a; }
void	refusal_answer(struct buf *b, struct board_slot *s, enum refusal_reason r, bool sse, bool head, const char *cors)
	{ (void)b; (void)s; (void)r; (void)sse; (void)head; (void)cors; }
void	peer_read(struct peer *p, const struct opts *o, peer_param_cb *param, const void *arg)
	{ (void)p; (void)o; (void)param; (void)arg; }
int64_t	mono_ms(void) { return (0); }

void
answers_send(struct answers *a, int fd, uint16_t request_id, const char *stream_cors, struct buf *cgi)
{
	(void)a;
	(void)fd;
	(void)request_id;
	(void)stream_cors;
	buf_fini(cgi);
}

/* ---- a plain reading ---- */

/* A length of FastCGI 1.0, 3.4. */
static size_t
pair_length(const unsigned char *p, size_t *at)
{
	size_t	len = p[(*at)++];

	if (len & 0x80) {
		len = (len & 0x7f) << 24 | (size_t)p[*at] << 16 | (size_t)p[*at + 1] << 8 | p[*at + 2];
		*at += 3;
	}
	return (len);
}

static void
read_pairs(const unsigned char *p, size_t len)
{
	size_t	at = 0, name_len, value_len;

	while (at < len) {
		name_len = pair_length(p, &at);
		value_len = pair_length(p, &at);
		must(at + name_len + value_len <= len);
		buf_add(&want.params, p + at, name_len);
		buf_add(&want.params, "=", 1);
		buf_add(&want.params, p + at + name_len, value_len);
		buf_add(&want.params, "", 1);
		at += name_len + value_len;
	}
}

static void
read_plainly(const uint8_t *data, size_t len)
{
	struct buf	pairs = BUF_INIT;
	size_t		at, n;

	buf_reset(&want.params);
	buf_reset(&want.body);
	for (at = 0; at < len; at += FCGI_HEADER_LEN + n + data[at + 6]) {
		n = (size_t)data[at + 4] << 8 | data[at + 5];
		if (data[at + 1] != RECORD_BEGIN)
			buf_add(data[at + 1] == FCGI_PARAMS ? &pairs : &want.body, data + at + FCGI_HEADER_LEN, n);
	}
	if (pairs.len > 0)
		read_pairs((const unsigned char *)pairs.data, pairs.len);
	buf_fini(&pairs);
}

/* ---- libfcgi's ---- */

static void
compare(struct request *rq)
{
	char	**e = rq->fcgx.envp;
	size_t	  at, len;

	must(strcmp(*e++, "FCGI_ROLE=RESPONDER") == 0);	/* what it adds by itself */
	for (at = 0; at < want.params.len; at += len) {
		len = strlen(want.params.data + at) + 1;
		must(*e != NULL);
		must(strcmp(*e++, want.params.data + at) == 0);
	}
	must(*e == NULL);
	must(rq->body_len == want.body.len);
	must(want.body.len == 0 || memcmp(rq->body, want.body.data, want.body.len) == 0);
	want.dispatched++;
	request_out_of_memory(rq);	/* ends it */
}

static void
check(const uint8_t *data, size_t len, bool is_whole)
{
	static struct service	 s = { .replay_fd = -1 };
	struct fcgi_scan	 scan;
	enum fcgi_verdict	 v;
	size_t			 used;

	memset(&scan, 0, sizeof(scan));
	v = fcgi_scan(&scan, data, len, &used);
	must(!is_whole || (v == FCGI_WHOLE && used == len));
	if (v != FCGI_WHOLE)
		return;
	read_plainly(data, used);
	want.dispatched = 0;
	request_new(&s, -1, scan.request_id, data, used, compare);
	must(want.dispatched == 1);	/* 0: libfcgi saw an error */
	must(s.requests == NULL && s.replay_fd != -1);
}

/* ---- a request by a recipe ---- */

struct recipe {
	const uint8_t	*at;
	size_t		 left;
};

static uint8_t
next(struct recipe *r)
{
	if (r->left == 0)
		return (0);
	r->left--;
	return (*r->at++);
}

static void
put_record(struct buf *out, unsigned type, const void *content, size_t len, size_t padding)
{
	const unsigned char	 head[FCGI_HEADER_LEN] = { 1, (unsigned char)type, 0, 1,
	    (unsigned char)(len >> 8), (unsigned char)len, (unsigned char)padding };
	static const char	 zeros[256];

	buf_add(out, head, sizeof(head));
	buf_add(out, content, len);
	buf_add(out, zeros, padding);
}

/* In records as long as the recipe says, with as much padding, and an empty one. */
static void
put_stream(struct buf *out, unsigned type, const struct buf *b, struct recipe *r, size_t end_padding)
{
	size_t	at, n;

	for (at = 0; at < b->len; at += n) {
		n = (size_t)next(r) << (next(r) & 7);
		if (n == 0 || n > b->len - at)
			n = b->len - at;
		put_record(out, type, b->data + at, n, next(r));
	}
	put_record(out, type, NULL, 0, end_padding);
}

/* FastCGI 1.0, 3.4: in one byte or in four. */
static void
put_length(struct buf *out, size_t len, bool is_long)
{
	const unsigned char	bytes[4] = { 0x80, 0, (unsigned char)(len >> 8), (unsigned char)len };
	const unsigned char	byte = (unsigned char)len;

	if (is_long || len > 127)
		buf_add(out, bytes, sizeof(bytes));
	else
		buf_add(out, &byte, 1);
}

static void
put_text(struct buf *out, size_t len, unsigned first)
{
	for (; len > 0; len--, first++) {
		const char c = (char)(first % 255 + 1);		/* any byte but NUL */

		buf_add(out, &c, 1);
	}
}

/* True: it is as the examiner wants it; else it has padding where libfcgi 2.4.2 loses its place. */
static bool
cook(struct recipe *r, struct buf *out)
{
	struct buf	pairs = BUF_INIT, body = BUF_INIT;
	unsigned	odd = next(r), n = next(r) & 31, flags, first;
	size_t		name_len, value_len;

	for (; n > 0 && pairs.len < 24 * 1024; n--) {
		flags = next(r);
		first = next(r);
		name_len = ((size_t)next(r) << (flags & 1 ? 2 : 0)) + 1;
		value_len = (size_t)next(r) << (flags >> 4 & 3);
		if (name_len == sizeof("CONTENT_LENGTH") - 1)
			name_len++;		/* its value is looked at: that is for any bytes */
		put_length(&pairs, name_len, flags & 2);
		put_length(&pairs, value_len, flags & 4);
		put_text(&pairs, name_len, first);
		put_text(&pairs, value_len, first + flags);
	}
	put_text(&body, (size_t)next(r) << (next(r) & 5), next(r));
	put_record(out, RECORD_BEGIN, "\0\1\0\0\0\0\0\0", 8, odd & 0x40 ? 8 : 0);
	put_stream(out, FCGI_PARAMS, &pairs, r, odd & 0x80 ? 8 : 0);
	put_stream(out, RECORD_STDIN, &body, r, next(r));
	buf_fini(&pairs);
	buf_fini(&body);
	return ((odd & 0xc0) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recipe	 r;
	struct buf	 whole = BUF_INIT;
	bool		 is_whole;

	if (FCGX_Init() != 0)		/* again: does nothing */
		abort();
	if (size == 0)
		return (0);
	if ((data[0] & 1) == 0) {
		check(data + 1, size - 1, false);
		return (0);
	}
	r = (struct recipe){ data + 1, size - 1 };
	is_whole = cook(&r, &whole);
	must(buf_ok(&whole));
	if (whole.len <= FCGI_MAX_REQUEST_BYTES)
		check((const uint8_t *)whole.data, whole.len, is_whole);
	buf_fini(&whole);
	return (0);
}
