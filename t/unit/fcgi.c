/* SPDX-License-Identifier: ISC */
/*
 * fcgi: requests as bytes.  Every table row is fed prefix by prefix, so that
 * what is said is also said at the right byte, and never taken back.
 */
#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "unit.h"
#include "wire/fcgi.h"

/* Records of request 1 as string literals; BYTES gives pointer and length. */
#define BYTES(s)	s, sizeof(s) - 1
#define BEGIN		"\1\1\0\1\0\10\0\0" "\0\1\0\0\0\0\0\0"
#define PARAMS(len)	"\1\4\0\1\0" len "\0\0"
#define PARAMS_END	"\1\4\0\1\0\0\0\0"
#define STDIN(len)	"\1\5\0\1\0" len "\0\0"
#define STDIN_END	"\1\5\0\1\0\0\0\0"
#define PAIR_AB		"\1\1" "ab"		/* a=b: 4 bytes */
#define ZEROS_60	"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" \
			"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static const struct {
	const char	*says, *bytes;
	size_t		 len;
} good_cases[] = {
	{ "a GET has BEGIN, PARAMS and no body", BYTES(BEGIN PARAMS("\4") PAIR_AB PARAMS_END STDIN_END) },
	{ "a body is STDIN records up to an empty one",
	    BYTES(BEGIN PARAMS("\4") PAIR_AB PARAMS_END STDIN("\2") "{}" STDIN("\1") "\n" STDIN_END) },
	{ "PARAMS may be empty", BYTES(BEGIN PARAMS_END STDIN_END) },
	{ "a value may be empty", BYTES(BEGIN PARAMS("\3") "\1\0" "a" PARAMS_END STDIN_END) },
	{ "a short length may take four bytes",
	    BYTES(BEGIN PARAMS("\12") "\200\0\0\1" "\200\0\0\1" "ab" PARAMS_END STDIN_END) },
	{ "a pair may be cut by a record boundary anywhere",
	    BYTES(BEGIN PARAMS("\1") "\1" PARAMS("\2") "\1" "a" PARAMS("\1") "b" PARAMS_END STDIN_END) },
	{ "a four-byte length may be cut by a record boundary",
	    BYTES(BEGIN PARAMS("\2") "\200\0" PARAMS("\5") "\0\1" "\1" "ab" PARAMS_END STDIN_END) },
	{ "records may be padded, but for BEGIN and the empty PARAMS",
	    BYTES(BEGIN "\1\4\0\1\0\4\3\0" PAIR_AB "\7\7\7" PARAMS_END "\1\5\0\1\0\1\2\0" "x" "\7\7"
	    "\1\5\0\1\0\0\5\0" "\7\7\7\7\7") },
	{ "padding may look like a record",
	    BYTES(BEGIN "\1\4\0\1\0\4\10\0" PAIR_AB "\1\2\0\1\0\0\0\0" PARAMS_END STDIN_END) },
	{ "a body may hold any byte",
	    BYTES(BEGIN PARAMS_END STDIN("\4") "\0\1\2\377" STDIN_END) },
	{ "any request id but 0 will do",
	    BYTES("\1\1\377\376\0\10\0\0" "\0\1\0\0\0\0\0\0" "\1\4\377\376\0\0\0\0" "\1\5\377\376\0\0\0\0") },
	{ "flags and reserved bytes do not matter",
	    BYTES("\1\1\0\1\0\10\0\377" "\0\1\1\1\2\3\4\5" "\1\4\0\1\0\0\0\377" STDIN_END) },
	{ "an empty CONTENT_LENGTH is none (nginx sends it with GET)",
	    BYTES(BEGIN PARAMS("\20") "\16\0" "CONTENT_LENGTH" PARAMS_END STDIN_END) },
	{ "CONTENT_LENGTH -1 is none (Caddy)",
	    BYTES(BEGIN PARAMS("\22") "\16\2" "CONTENT_LENGTH" "-1" PARAMS_END STDIN("\1") "x" STDIN_END) },
	{ "CONTENT_LENGTH may be as large as a body may",
	    BYTES(BEGIN PARAMS("\25") "\16\5" "CONTENT_LENGTH" "16384" PARAMS_END STDIN_END) },
	{ "a name that only looks like CONTENT_LENGTH may have any value",
	    BYTES(BEGIN PARAMS("\21") "\16\1" "CONTENT_LENGTx" "x" PARAMS_END STDIN_END) },
	{ "CONTENT_LENGTH does not have to be that of the body",
	    BYTES(BEGIN PARAMS("\21") "\16\1" "CONTENT_LENGTH" "9" PARAMS_END STDIN("\1") "x" STDIN_END) },
};

struct fcgi_seen {
	uint16_t	 request_id;
	size_t		 bytes;		/* of the whole request */
	const char	*why;
};

/* The bytes in pieces of so many: what they are. */
static enum fcgi_verdict
scan_in_pieces(const unsigned char *bytes, size_t len, size_t piece, struct fcgi_seen *seen)
{
	struct fcgi_scan	 scan;
	enum fcgi_verdict	 v = FCGI_MORE;
	size_t			 n, used, at = 0;

	memset(&scan, 0, sizeof(scan));
	while (at < len && v == FCGI_MORE) {
		n = len - at < piece ? len - at : piece;
		v = fcgi_scan(&scan, bytes + at, n, &used);
		ck_assert_uint_le(used, n);
		ck_assert(v != FCGI_MORE || used == n);
		at += used;
	}
	seen->request_id = scan.request_id;
	seen->bytes = v == FCGI_WHOLE ? at : 0;
	seen->why = scan.why != NULL ? scan.why : "";
	return (v);
}

/* What the first len bytes are, and the assertions that hold for any bytes. */
static enum fcgi_verdict
examine(const char *says, const void *bytes, size_t len, struct fcgi_seen *seen)
{
	static const size_t	 pieces[] = { 1, 7, 256 };
	enum fcgi_verdict	 v, w;
	struct fcgi_seen	 again;
	void			*exact;		/* so that sanitizers see a read too far */
	size_t			 i;

	exact = malloc(len > 0 ? len : 1);
	ck_assert_ptr_nonnull(exact);
	if (len > 0)
		memcpy(exact, bytes, len);
	v = scan_in_pieces(exact, len, SIZE_MAX, seen);
	for (i = 0; len < 1000 && i < nitems(pieces); i++) {
		w = scan_in_pieces(exact, len, pieces[i], &again);
		ck_assert_msg(w == v && again.bytes == seen->bytes && again.request_id == seen->request_id,
		    "%s: %s, but %s in pieces of %zu", says, fcgi_verdict_name(v), fcgi_verdict_name(w), pieces[i]);
	}
	free(exact);
	ck_assert_msg((seen->why[0] == '\0') == (v == FCGI_MORE || v == FCGI_WHOLE),
	    "%s: %s because \"%s\"", says, fcgi_verdict_name(v), seen->why);
	ck_assert_msg(v == FCGI_WHOLE ? seen->bytes > 0 && seen->bytes <= len : seen->bytes == 0,
	    "%s: %zu of %zu bytes are the request", says, seen->bytes, len);
	return (v);
}

START_TEST(good)
{
	const char		*says = good_cases[_i].says, *bytes = good_cases[_i].bytes;
	size_t			 len = good_cases[_i].len, n;
	struct fcgi_seen	 seen;
	struct buf		 more = BUF_INIT;
	uint16_t		 id = (uint16_t)((unsigned char)bytes[2] << 8 | (unsigned char)bytes[3]);

	for (n = 0; n < len; n++) {
		ck_assert_msg(examine(says, bytes, n, &seen) == FCGI_MORE,
		    "%s: its first %zu bytes are not FCGI_MORE: %s", says, n, seen.why);
		ck_assert_uint_eq(seen.request_id, n < FCGI_HEADER_LEN ? 0 : id);
	}
	buf_add(&more, bytes, len);
	buf_puts(&more, "what follows is ignored");
	for (n = len; n <= more.len; n++) {
		ck_assert_msg(examine(says, more.data, n, &seen) == FCGI_WHOLE, "%s: %s", says, seen.why);
		ck_assert_uint_eq(seen.bytes, len);
		ck_assert_uint_eq(seen.request_id, id);
	}
	buf_fini(&more);
}
END_TEST

/* at: the byte, counted from 1, that decides. */
static const struct {
	const char		*says, *bytes;
	size_t			 len;
	enum fcgi_verdict	 verdict;
	size_t			 at;
} bad_cases[] = {
	{ "HTTP is not FastCGI", BYTES("GET / HTTP/1.1\r\n\r\n"), FCGI_BAD, 1 },
	{ "there is no version 0", BYTES("\0\1\0\1\0\10\0\0"), FCGI_BAD, 1 },
	{ "there is no version 2", BYTES("\2\1\0\1\0\10\0\0"), FCGI_BAD, 1 },
	{ "version 1 is asked of every record", BYTES(BEGIN "\2\4\0\1\0\0\0\0"), FCGI_BAD, 17 },
	{ "GET_VALUES first is told apart", BYTES("\1\11\0\0\0\20\0\0" "\16\0" "FCGI_MAX_CONNS"),
	    FCGI_MANAGEMENT, 4 },
	{ "unknown management records are, too", BYTES("\1\143\0\0\0\0\0\0"), FCGI_MANAGEMENT, 4 },
	{ "GET_VALUES of a request is nonsense", BYTES("\1\11\0\1\0\0\0\0"), FCGI_BAD, 4 },
	{ "GET_VALUES amid PARAMS never reaches libfcgi", BYTES(BEGIN "\1\11\0\0\0\0\0\0"), FCGI_BAD, 18 },
	{ "GET_VALUES amid STDIN never reaches libfcgi", BYTES(BEGIN PARAMS_END "\1\11\0\0\0\0\0\0"), FCGI_BAD, 26 },
	{ "PARAMS can't be first", BYTES(PARAMS_END), FCGI_BAD, 4 },
	{ "request id 0 is not for requests", BYTES("\1\1\0\0\0\10\0\0"), FCGI_BAD, 4 },
	{ "BEGIN_REQUEST shorter than 8 bytes", BYTES("\1\1\0\1\0\7\0\0"), FCGI_BAD, 6 },
	{ "BEGIN_REQUEST longer than 8 bytes", BYTES("\1\1\0\1\1\10\0\0"), FCGI_BAD, 6 },
	{ "padding on BEGIN_REQUEST desynchronizes libfcgi", BYTES("\1\1\0\1\0\10\1\0" "\0\1\0\0\0\0\0\0\0"), FCGI_BAD, 7 },
	{ "AUTHORIZER is not our role", BYTES("\1\1\0\1\0\10\0\0" "\0\2\0\0\0\0\0\0"), FCGI_BAD_ROLE, 10 },
	{ "FILTER is not our role", BYTES("\1\1\0\1\0\10\0\0" "\0\3\0\0\0\0\0\0"), FCGI_BAD_ROLE, 10 },
	{ "a role has two bytes", BYTES("\1\1\0\1\0\10\0\0" "\1\1\0\0\0\0\0\0"), FCGI_BAD_ROLE, 9 },
	{ "a second BEGIN_REQUEST", BYTES(BEGIN BEGIN), FCGI_BAD, 18 },
	{ "a PARAMS record of another request", BYTES(BEGIN "\1\4\0\2\0\0\0\0"), FCGI_BAD, 20 },
	{ "a STDIN record of another request", BYTES(BEGIN PARAMS_END "\1\5\1\1\0\0\0\0"), FCGI_BAD, 28 },
	{ "STDIN before the end of PARAMS", BYTES(BEGIN PARAMS("\4") PAIR_AB STDIN_END), FCGI_BAD, 30 },
	{ "PARAMS after the end of PARAMS", BYTES(BEGIN PARAMS_END PARAMS("\4") PAIR_AB), FCGI_BAD, 26 },
	{ "ABORT_REQUEST instead of PARAMS", BYTES(BEGIN "\1\2\0\1\0\0\0\0"), FCGI_BAD, 18 },
	{ "ABORT_REQUEST instead of STDIN", BYTES(BEGIN PARAMS_END "\1\2\0\1\0\0\0\0"), FCGI_BAD, 26 },
	{ "DATA is for filters", BYTES(BEGIN PARAMS_END "\1\10\0\1\0\0\0\0"), FCGI_BAD, 26 },
	{ "padding on the empty PARAMS desynchronizes libfcgi", BYTES(BEGIN "\1\4\0\1\0\0\1\0\0" STDIN_END), FCGI_BAD, 23 },
	{ "a name may not be empty", BYTES(BEGIN PARAMS("\3") "\0\1" "b" PARAMS_END), FCGI_BAD, 25 },
	{ "nor when its length takes four bytes", BYTES(BEGIN PARAMS("\6") "\200\0\0\0\1" "b"), FCGI_BAD, 28 },
	{ "PARAMS may not end before a value's length", BYTES(BEGIN PARAMS("\1") "\1" PARAMS_END), FCGI_BAD, 33 },
	{ "PARAMS may not end within a length", BYTES(BEGIN PARAMS("\2") "\200\0" PARAMS_END), FCGI_BAD, 34 },
	{ "PARAMS may not end within a name", BYTES(BEGIN PARAMS("\3") "\2\0" "a" PARAMS_END), FCGI_BAD, 35 },
	{ "PARAMS may not end within a value", BYTES(BEGIN PARAMS("\4") "\1\2" "ab" PARAMS_END), FCGI_BAD, 36 },
	{ "a name of 2 GB is not waited for", BYTES(BEGIN PARAMS("\4") "\377\377\377\376" PARAMS_END), FCGI_BIG_PARAMS, 28 },
	{ "nor a value of 2 GB", BYTES(BEGIN PARAMS("\5") "\1\377\377\377\377" PARAMS_END), FCGI_BIG_PARAMS, 29 },
	{ "a NUL in a name", BYTES(BEGIN PARAMS("\5") "\2\1" "\0ab"), FCGI_BAD_PARAM, 27 },
	{ "a NUL in a value", BYTES(BEGIN PARAMS("\5") "\1\2" "ab\0"), FCGI_BAD_PARAM, 29 },
	{ "CONTENT_LENGTH is a number", BYTES(BEGIN PARAMS("\22") "\16\2" "CONTENT_LENGTH" "-2" PARAMS_END), FCGI_BAD_PARAM, 50 },
	{ "CONTENT_LENGTH is a number to its end", BYTES(BEGIN PARAMS("\22") "\16\2" "CONTENT_LENGTH" "1 " PARAMS_END), FCGI_BAD_PARAM, 50 },
	{ "CONTENT_LENGTH over the limit needs no body to come",
	    BYTES(BEGIN PARAMS("\25") "\16\5" "CONTENT_LENGTH" "16385" PARAMS_END), FCGI_BIG_BODY, 53 },
	{ "CONTENT_LENGTH over 64 bits does not wrap",
	    BYTES(BEGIN PARAMS("\44") "\16\24" "CONTENT_LENGTH" "18446744073709551617" PARAMS_END), FCGI_BIG_BODY, 68 },
	{ "CONTENT_LENGTH over the limit stays so when a smaller one follows",
	    BYTES(BEGIN PARAMS("\46") "\16\5" "CONTENT_LENGTH" "16385" "\16\1" "CONTENT_LENGTH" "1" PARAMS_END), FCGI_BIG_BODY, 70 },
	{ "a body over the limit is known by a record's header",
	    BYTES(BEGIN PARAMS_END "\1\5\0\1\100\1\0\0"), FCGI_BIG_BODY, 30 },
};

START_TEST(bad)
{
	const char		*says = bad_cases[_i].says;
	enum fcgi_verdict	 v, want;
	struct fcgi_seen	 seen;
	struct buf		 more = BUF_INIT;
	size_t			 n;

	buf_add(&more, bad_cases[_i].bytes, bad_cases[_i].len);
	buf_add(&more, BYTES(STDIN_END "whatever follows" ZEROS_60));
	for (n = 0; n <= more.len; n++) {
		v = examine(says, more.data, n, &seen);
		want = (n >= bad_cases[_i].at ? bad_cases[_i].verdict : FCGI_MORE);
		ck_assert_msg(v == want, "%s: %zu bytes are %s, not %s", says, n,
		    fcgi_verdict_name(v), fcgi_verdict_name(want));
	}
	buf_fini(&more);
}
END_TEST

/* A record of request 1. */
static void
put_record(struct buf *b, unsigned type, const void *content, size_t len, size_t padding)
{
	const unsigned char	 h[8] = { 1, (unsigned char)type, 0, 1, (unsigned char)(len >> 8),
	    (unsigned char)(len & 0xff), (unsigned char)padding, 0 };
	static const char	 zeros[256];

	buf_add(b, h, sizeof(h));
	buf_add(b, content, len);
	buf_add(b, zeros, padding);
}

/* bytes of PARAMS as one pair after the other, each of up to 100 bytes of value. */
static void
put_pairs(struct buf *b, size_t bytes)
{
	size_t	 n;

	for (; bytes > 0; bytes -= 3 + n) {
		n = bytes > 130 ? 100 : bytes - 3;	/* one-byte lengths */
		buf_add(b, BYTES("\1"));
		buf_printf(b, "%c%c%*s", (int)n, 'a', (int)n, "");
	}
}

/* The content in records of up to per_record bytes. */
static void
put_stream(struct buf *b, unsigned type, const char *content, size_t len, size_t per_record, size_t padding)
{
	size_t	 n;

	for (; len > 0; len -= n, content += n) {
		n = len < per_record ? len : per_record;
		put_record(b, type, content, n, padding);
	}
}

static const struct {
	const char		*says;
	size_t			 params, body;		/* bytes of each */
	size_t			 per_record, padding;
	enum fcgi_verdict	 verdict;
} limit_cases[] = {
	{ "PARAMS may be as long as the limit", FCGI_MAX_PARAMS_BYTES, 0, 60000, 0, FCGI_WHOLE },
	{ "PARAMS may not be longer than the limit", FCGI_MAX_PARAMS_BYTES + 1, 0, 60000, 0, FCGI_BIG_PARAMS },
	{ "12 MB of PARAMS are not read", 12 * 1024 * 1024, 0, 60000, 0, FCGI_BIG_PARAMS },
	{ "a body may be as long as the limit", 4, FCGI_MAX_BODY_BYTES, 1000, 0, FCGI_WHOLE },
	{ "a body may not be longer than the limit", 4, FCGI_MAX_BODY_BYTES + 1, 1000, 0, FCGI_BIG_BODY },
	{ "both may be as long as their limits", FCGI_MAX_PARAMS_BYTES, FCGI_MAX_BODY_BYTES, 8192, 7, FCGI_WHOLE },
	{ "headers of tiny records count", 60000, 0, 1, 0, FCGI_BAD },
	{ "padding counts", 2000, 0, 1, 255, FCGI_BAD },
	{ "padding of a body counts", 4, 1000, 1, 255, FCGI_BAD },
};

START_TEST(limits)
{
	const char		*says = limit_cases[_i].says;
	struct buf		 rq = BUF_INIT, params = BUF_INIT, body = BUF_INIT;
	struct fcgi_seen	 seen;
	enum fcgi_verdict	 v;
	size_t			 n, full;

	put_pairs(&params, limit_cases[_i].params);
	ck_assert_uint_eq(params.len, limit_cases[_i].params);
	buf_printf(&body, "%*s", (int)limit_cases[_i].body, "");
	buf_add(&rq, BYTES(BEGIN));
	put_stream(&rq, 4, params.data, params.len, limit_cases[_i].per_record, limit_cases[_i].padding);
	buf_add(&rq, BYTES(PARAMS_END));
	put_stream(&rq, 5, body.data, body.len, limit_cases[_i].per_record, limit_cases[_i].padding);
	buf_add(&rq, BYTES(STDIN_END));
	v = examine(says, rq.data, rq.len, &seen);
	ck_assert_msg(v == limit_cases[_i].verdict, "%s: %s (%s)", says, fcgi_verdict_name(v), seen.why);
	full = rq.len < FCGI_MAX_REQUEST_BYTES ? rq.len : FCGI_MAX_REQUEST_BYTES;
	ck_assert_msg(examine(says, rq.data, full, &seen) == v, "%s: a full buffer is not enough", says);
	for (n = 0; n < full; n += 997) {	/* once said, it stays */
		enum fcgi_verdict w = examine(says, rq.data, n, &seen);
		ck_assert_msg(w == FCGI_MORE || w == v, "%s: %s first", says, fcgi_verdict_name(w));
	}
	buf_fini(&rq);
	buf_fini(&params);
	buf_fini(&body);
}
END_TEST

/* The pairs of a complete stream, read the plain way: is it one that libfcgi may have? */
static bool
plain_pairs_fine(const unsigned char *p, size_t len)
{
	size_t		 at = 0, pair[2], i;
	bool		 length, malformed = false;
	unsigned long	 value;

	while (at < len) {
		for (i = 0; i < 2; i++) {
			if (at < len && p[at] < 0x80)
				pair[i] = p[at++];
			else if (len - at >= 4) {
				pair[i] = (size_t)(p[at] & 0x7f) << 24 | (size_t)p[at + 1] << 16 |
				    (size_t)p[at + 2] << 8 | p[at + 3];
				at += 4;
			} else
				return (false);
		}
		if (pair[0] == 0 || pair[0] > len - at || pair[1] > len - at - pair[0] ||
		    memchr(p + at, 0, pair[0] + pair[1]) != NULL)
			return (false);
		length = (pair[0] == 14 && memcmp(p + at, "CONTENT_LENGTH", 14) == 0);
		at += pair[0];
		length = length && (pair[1] != 2 || memcmp(p + at, "-1", 2) != 0);
		for (i = 0, value = 0; length && i < pair[1]; i++) {
			malformed = malformed || p[at + i] < '0' || p[at + i] > '9';
			value = value > 99999 ? value : value * 10 + (p[at + i] - '0');
		}
		malformed = malformed || value > FCGI_MAX_BODY_BYTES;
		at += pair[1];
	}
	return (!malformed);
}

/* Is the beginning of these bytes a whole good request?  Its length, or 0. */
static size_t
plain_whole(const unsigned char *p, size_t len)
{
	struct buf	 params = BUF_INIT;
	size_t		 at = 0, n, body = 0, result = 0;
	unsigned	 stage = 0;

	for (;;) {
		if (len - at < 8 || p[at] != 1 || (n = (size_t)p[at + 4] << 8 | p[at + 5]) + p[at + 6] > len - at - 8)
			break;
		if ((p[at + 2] == 0 && p[at + 3] == 0) || p[at + 2] != p[2] || p[at + 3] != p[3] ||
		    p[at + 1] != (stage == 0 ? 1 : stage == 1 ? 4 : 5))
			break;
		if (stage == 0 && (n != 8 || p[at + 6] != 0 || p[at + 8] != 0 || p[at + 9] != 1))
			break;
		if (stage == 1 && n == 0 && (p[at + 6] != 0 ||
		    !plain_pairs_fine((const unsigned char *)params.data, params.len)))
			break;
		if (stage == 1)
			buf_add(&params, p + at + 8, n);
		if (stage == 2 && (body += n) > FCGI_MAX_BODY_BYTES)
			break;
		at += 8 + n + p[at + 6];
		if (at > FCGI_MAX_REQUEST_BYTES || params.len > FCGI_MAX_PARAMS_BYTES)
			break;
		if (stage == 2 && n == 0) {
			result = at;
			break;
		}
		if (stage == 0 || (stage == 1 && n == 0))
			stage++;
	}
	buf_fini(&params);
	return (result);
}

/* Change, insert or remove a few bytes. */
static void
mutate(struct buf *b, uint64_t *seed)
{
	static const unsigned char	 likely[] = { 0, 1, 2, 4, 5, 8, 9, 0x7f, 0x80, 0xff };
	size_t				 n = unit_random(seed, 4), at;

	for (; n > 0 && b->len > 1; n--) {
		at = unit_random(seed, b->len);
		switch (unit_random(seed, 4)) {
		case 0:
			b->data[at] = (char)unit_random(seed, 256);
			break;
		case 1:
			b->data[at] = (char)likely[unit_random(seed, sizeof(likely))];
			break;
		case 2:
			buf_add(b, "", 1);
			memmove(b->data + at + 1, b->data + at, b->len - at - 1);
			break;
		case 3:
			memmove(b->data + at, b->data + at + 1, b->len - at - 1);
			b->len--;
			break;
		}
	}
}

START_TEST(mutations)
{
	struct buf		 b = BUF_INIT;
	struct fcgi_seen	 seen;
	enum fcgi_verdict	 v, last;
	uint64_t		 seed = unit_seed(_i);
	size_t			 n, whole, row, round;

	for (round = 0; round < 100; round++) {
		buf_reset(&b);
		row = unit_random(&seed, nitems(good_cases));
		buf_add(&b, good_cases[row].bytes, good_cases[row].len);
		mutate(&b, &seed);
		last = FCGI_MORE;
		for (n = 0; n <= b.len; n++) {
			v = examine("mutations", b.data, n, &seen);
			ck_assert_msg(last == FCGI_MORE || v == last, "seed %d round %zu: %s after %s at %zu",
			    _i, round, fcgi_verdict_name(v), fcgi_verdict_name(last), n);
			last = v;
		}
		whole = plain_whole((const unsigned char *)b.data, b.len);
		ck_assert_msg((last == FCGI_WHOLE) == (whole > 0), "seed %d round %zu: %s (%s)", _i, round,
		    fcgi_verdict_name(last), seen.why);
		ck_assert_uint_eq(seen.bytes, whole);
	}
	buf_fini(&b);
}
END_TEST

static const struct {
	const char	*says;
	size_t		 len, records;
} stdout_cases[] = {
	{ "one byte is one record", 1, 1 },
	{ "a full record is one", FCGI_MAX_CONTENT, 1 },
	{ "one byte more makes two", FCGI_MAX_CONTENT + 1, 2 },
	{ "two full ones are two", 2 * FCGI_MAX_CONTENT, 2 },
	{ "a block of 40000 seats goes out whole", 1500000, 184 },
};

START_TEST(encode)
{
	const char	*says = stdout_cases[_i].says;
	size_t		 len = stdout_cases[_i].len, bytes = fcgi_stdout_bytes(len), at, n, done = 0, i;
	unsigned char	*in = malloc(len), *out = malloc(bytes);

	ck_assert_ptr_nonnull(in);
	ck_assert_ptr_nonnull(out);
	for (i = 0; i < len; i++)
		in[i] = (unsigned char)(i * 31 + i / 256);
	ck_assert_uint_eq(bytes, len + stdout_cases[_i].records * FCGI_HEADER_LEN);
	ck_assert_uint_eq(fcgi_stdout(out, 0x1234, in, len), bytes);
	fcgi_readdress(out, bytes, 0xabcd);
	for (at = 0; at < bytes; at += FCGI_HEADER_LEN + n) {
		n = (size_t)out[at + 4] << 8 | out[at + 5];
		ck_assert_msg(n > 0 && n <= FCGI_MAX_CONTENT, "%s: a record of %zu", says, n);
		ck_assert_mem_eq(out + at, "\1\6\253\315", 4);
		ck_assert_mem_eq(out + at + 6, "\0\0", 2);
		ck_assert_mem_eq(out + at + FCGI_HEADER_LEN, in + done, n);
		done += n;
	}
	ck_assert_msg(done == len, "%s: %zu bytes of content", says, done);
	free(in);
	free(out);
}
END_TEST

START_TEST(end_is_empty_stdout_and_end_request)
{
	unsigned char	 out[FCGI_END_BYTES];

	memset(out, 0xff, sizeof(out));
	fcgi_end(out, 0x0102, FCGI_UNKNOWN_ROLE);
	ck_assert_mem_eq(out, "\1\6\1\2\0\0\0\0" "\1\3\1\2\0\10\0\0" "\0\0\0\0\3\0\0\0", sizeof(out));
	fcgi_readdress(out, sizeof(out), 7);
	ck_assert_mem_eq(out, "\1\6\0\7\0\0\0\0" "\1\3\0\7\0\10\0\0" "\0\0\0\0\3\0\0\0", sizeof(out));
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("fcgi");
	TCase	*tc;

	tc = unit_case(s, "examine");
	unit_rows(tc, good, good_cases);
	unit_rows(tc, bad, bad_cases);
	unit_rows(tc, limits, limit_cases);
	tcase_add_loop_test(tc, mutations, 0, 40);
	tc = unit_case(s, "encode");
	unit_rows(tc, encode, stdout_cases);
	tcase_add_test(tc, end_is_empty_stdout_and_end_request);
	return (unit_main(s));
}
