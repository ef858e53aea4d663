/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/number.h"
#include "worker/body.h"

#define NAME_BYTES	16	/* longer than any name that we know */

static const char not_object[] = "the body is to be one JSON object, without duplicate names";
static const char bad_user[] = "userId is to be an integer, 1 to 9223372036854775807";
static const char bad_seats[] = "seatIds is to be an array of different seat ids, at least one";
static const char bad_name[] = "the body is to have userId and seatIds only";

struct text {
	const char	*at, *end;
};

static void
skip_space(struct text *t)
{
	while (t->at < t->end && (*t->at == ' ' || *t->at == '\t' || *t->at == '\n' || *t->at == '\r'))
		t->at++;
}

/* White space, then this byte: moves behind both. */
static bool
take(struct text *t, char byte)
{
	skip_space(t);
	if (t->at == t->end || *t->at != byte)
		return (false);
	t->at++;
	return (true);
}

/* The rest of an escape, behind the backslash.  -1: bad; a code unit that is no ASCII is 0. */
static int
take_escape(struct text *t)
{
	static const char	 hex[] = "0123456789abcdef", plain[] = "\"\\/bfnrt";
	const char		*digit;
	unsigned		 unit = 0;
	int			 i;

	if (t->at == t->end)
		return (-1);
	if (*t->at != 'u')
		return (*t->at != '\0' && strchr(plain, *t->at) != NULL ? (t->at++, 0) : -1);
	t->at++;
	for (i = 0; i < 4; i++) {
		if (t->at == t->end || *t->at == '\0' ||
		    (digit = strchr(hex, *t->at >= 'A' && *t->at <= 'F' ? *t->at + ('a' - 'A') : *t->at)) == NULL)
			return (-1);
		unit = unit << 4 | (unsigned)(digit - hex);
		t->at++;
	}
	return (unit < 0x80 ? (int)unit : 0);
}

/* A string, as a name.  What no name of ours contains becomes a NUL in it.  -1: none, or badly written. */
static int
take_name(struct text *t, char *name_r, size_t *len_r)
{
	size_t	n = 0;
	int	byte;

	if (!take(t, '"'))
		return (-1);
	while (t->at < t->end && *t->at != '"') {
		byte = (unsigned char)*t->at++;
		if (byte < ' ')
			return (-1);
		if (byte == '\\' && (byte = take_escape(t)) == -1)
			return (-1);
		if (n < NAME_BYTES)
			name_r[n] = (char)byte;
		n++;
	}
	*len_r = n;
	return (t->at < t->end ? (t->at++, 0) : -1);
}

static bool
is_name(const char *name, size_t len, const char *ours)
{
	return (len == strlen(ours) && memcmp(name, ours, len) == 0);
}

/* An id as SPEC 1 wants it; what may follow a number is the caller's to judge. */
static int
take_id(struct text *t, int64_t *id_r)
{
	uint64_t	n;
	size_t		len = 0;

	skip_space(t);
	while (t->at + len < t->end && t->at[len] >= '0' && t->at[len] <= '9')
		len++;
	if (len == 0 || t->at[0] == '0' || number_parse(t->at, len, 10, INT64_MAX, &n) == -1)
		return (-1);
	t->at += len;
	*id_r = (int64_t)n;
	return (0);
}

static int
by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return ((x > y) - (x < y));
}

static bool
all_different(const int64_t *ids, size_t n)
{
	int64_t	sorted[BODY_MAX_SEATS];
	size_t	i;

	memcpy(sorted, ids, n * sizeof(*ids));
	qsort(sorted, n, sizeof(*sorted), by_value);
	for (i = 1; i < n && sorted[i] != sorted[i - 1]; i++)
		;
	return (i >= n);
}

static const char *
take_seats(struct text *t, struct body *b)
{
	int64_t id;

	if (b->has_seats)
		return (not_object);
	b->has_seats = true;
	if (!take(t, '['))
		return (bad_seats);
	do {
		if (take_id(t, &id) == -1)
			return (bad_seats);
		if (b->nseats < BODY_MAX_SEATS)
			b->seats[b->nseats] = id;
		b->nseats++;
	} while (take(t, ','));
	if (!take(t, ']'))
		return (bad_seats);
	return (b->nseats > BODY_MAX_SEATS || all_different(b->seats, b->nseats) ? NULL : bad_seats);
}

static const char *
take_member(struct text *t, struct body *b)
{
	char	name[NAME_BYTES];
	size_t	len;

	if (take_name(t, name, &len) == -1 || !take(t, ':'))
		return (not_object);
	if (is_name(name, len, "seatIds"))
		return (take_seats(t, b));
	if (!is_name(name, len, "userId"))
		return (bad_name);
	if (b->has_user)
		return (not_object);
	b->has_user = true;
	if (take_id(t, &b->user_id) == -1)
		return (bad_user);
	skip_space(t);
	return (t->at < t->end && *t->at != ',' && *t->at != '}' ? bad_user : NULL);
}

const char *
body_parse(const char *text, size_t len, struct body *body_r)
{
	struct text	 t = { text, text + len };
	const char	*wrong;

	body_r->has_user = body_r->has_seats = false;
	body_r->nseats = 0;
	if (!take(&t, '{'))
		return (not_object);
	if (!take(&t, '}')) {
		do {
			if ((wrong = take_member(&t, body_r)) != NULL)
				return (wrong);
		} while (take(&t, ','));
		if (!take(&t, '}'))
			return (not_object);
	}
	skip_space(&t);
	return (t.at < t.end ? not_object : NULL);
}
