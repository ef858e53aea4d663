/* SPDX-License-Identifier: ISC */
/*
 * buf - bytes that grow.
 *
 * A failed allocation is remembered instead of reported at every call: append
 * as you like and ask buf_ok once at the end.
 * Runs everywhere.  Pure.  The bytes are the buf's until buf_fini frees them.
 */
#ifndef BUF_H
#define BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char	*data;		/* always NUL-terminated once anything was appended */
	size_t	 len;		/* without that NUL */
	size_t	 cap;
	bool	 failed;	/* out of memory once: the contents are not to be used */
	bool	 fixed;		/* data is somebody else's, and all that there is */
};
#define BUF_INIT	{ NULL, 0, 0, false, false }
#define BUF_ON(array)	{ (array), 0, sizeof(array), false, true }	/* asks for no memory; what does not fit fails */

void	buf_fini(struct buf *b);			/* frees, and leaves an empty one */
void	buf_reset(struct buf *b);			/* empties, forgets a failure, keeps the memory */
bool	buf_ok(const struct buf *b);
void	buf_add(struct buf *b, const void *bytes, size_t len);
void	buf_puts(struct buf *b, const char *s);
void	buf_putn(struct buf *b, int64_t n);		/* in decimal: lists of tens of thousands are no work for printf */
void	buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
