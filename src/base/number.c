/* SPDX-License-Identifier: ISC */
#include "base/number.h"

int
number_parse(const char *text, size_t len, unsigned base, uint64_t max, uint64_t *n_r)
{
	uint64_t	 n = 0;
	unsigned	 digit;
	size_t		 i;

	for (i = 0; i < len; i++) {
		digit = (unsigned)(unsigned char)text[i] - '0';
		if (digit >= base || n > max / base || digit > max - n * base)
			return (-1);
		n = n * base + digit;
	}
	if (len == 0)
		return (-1);
	*n_r = n;
	return (0);
}
