/* SPDX-License-Identifier: ISC */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define BUF_FIRST	256	/* what the first append allocates at least */

void
buf_fini(struct buf *b)
{
	if (!b->fixed)
		free(b->data);
	*b = (struct buf)BUF_INIT;
}

void
buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data != NULL)
		b->data[0] = '\0';
}

bool
buf_ok(const struct buf *b)
{
	return (!b->failed);
}

/* Room for more bytes and the NUL.  Doubling keeps many small appends linear. */
static bool
buf_reserve(struct buf *b, size_t more)
{
	size_t	 need, cap;
	char	*data;

	if (b->failed)
		return (false);
	if (more >= SIZE_MAX / 2 - b->len)
		goto fail;
	need = b->len + more + 1;
	if (need <= b->cap)
		return (true);
	if (b->fixed)
		goto fail;
	for (cap = b->cap < BUF_FIRST ? BUF_FIRST : b->cap; cap < need; cap *= 2)
		;
	if ((data = realloc(b->data, cap)) == NULL)
		goto fail;
	b->data = data;
	b->cap = cap;
	return (true);

fail:
	b->failed = true;
	return (false);
}

void
buf_add(struct buf *b, const void *bytes, size_t len)
{
	if (!buf_reserve(b, len))
		return;
	if (len > 0)
		memcpy(b->data + b->len, bytes, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void
buf_puts(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void
buf_putn(struct buf *b, int64_t n)
{
	char		 digits[24], *p = digits + sizeof(digits);
	uint64_t	 rest = n < 0 ? -(uint64_t)n : (uint64_t)n;

	do {
		*--p = (char)('0' + rest % 10);
	} while ((rest /= 10) != 0);
	if (n < 0)
		*--p = '-';
	buf_add(b, p, (size_t)(digits + sizeof(digits) - p));
}

/* Formats where the bytes belong; a second time only when they did not fit. */
void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list	 ap;
	int	 n;

	if (!buf_reserve(b, 64))
		return;
	va_start(ap, fmt);
	n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n >= b->cap - b->len) {
		if (!buf_reserve(b, (size_t)n)) {
			b->data[b->len] = '\0';
			return;
		}
		va_start(ap, fmt);
		n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
		va_end(ap);
	}
	if (n < 0) {
		b->failed = true;
		b->data[b->len] = '\0';
		return;
	}
	b->len += (size_t)n;
}
