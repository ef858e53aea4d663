/* SPDX-License-Identifier: ISC */
/*
 * fuzz fcgi: any bytes at all.  What must hold: no read out of bounds (a
 * sanitizer sees it), a verdict is never taken back when more bytes come, and a
 * whole request is whole with exactly its own bytes and not with one less.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "wire/fcgi.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

struct fcgi_seen {
	uint16_t	 request_id;
	size_t		 bytes;		/* of the whole request */
	const char	*why;
};

/* As if only len bytes had come: a copy of that size, so that reading on is seen. */
static enum fcgi_verdict
examine(const uint8_t *data, size_t len, struct fcgi_seen *seen)
{
	struct fcgi_scan	 scan;
	enum fcgi_verdict	 v = FCGI_MORE;
	size_t			 used = 0, first = len > 0 ? data[len / 2] % len : 0;	/* in two pieces */
	uint8_t			*copy;

	if ((copy = malloc(len + 1)) == NULL)
		abort();
	memcpy(copy + 1, data, len);
	memset(&scan, 0, sizeof(scan));
	v = fcgi_scan(&scan, copy + 1, first, &used);
	seen->bytes = used;
	if (v == FCGI_MORE) {
		v = fcgi_scan(&scan, copy + 1 + first, len - first, &used);
		seen->bytes += used;
	}
	if (v != FCGI_WHOLE)
		seen->bytes = 0;
	seen->request_id = scan.request_id;
	seen->why = scan.why != NULL ? scan.why : "";
	free(copy);
	return (v);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fcgi_seen	 seen, part;
	enum fcgi_verdict	 v, before = FCGI_MORE;
	size_t			 n, step = size / 64 + 1;

	if (size == 0)
		return (0);
	v = examine(data, size, &seen);
	must(fcgi_verdict_name(v) != NULL && seen.why != NULL);
	for (n = 0; n < size; n += step) {
		enum fcgi_verdict now = examine(data, n, &part);

		must(before == FCGI_MORE || now == before);
		must(now == FCGI_MORE || now == v);
		before = now;
	}
	if (v == FCGI_WHOLE) {
		must(seen.bytes > 0 && seen.bytes <= size && seen.request_id != 0);
		must(examine(data, seen.bytes, &part) == FCGI_WHOLE);
		must(examine(data, seen.bytes - 1, &part) == FCGI_MORE);
	}
	return (0);
}
