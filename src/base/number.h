/* SPDX-License-Identifier: ISC */
/*
 * number - decimal (or octal) digits as a number: the one place where it is done.
 *
 * Runs everywhere.  Pure.
 */
#ifndef NUMBER_H
#define NUMBER_H

#include <stddef.h>
#include <stdint.h>

/* len bytes, digits of base and nothing else, at least one, at most max in value.  0 or -1.  Leading zeros are the caller's to judge. */
int	number_parse(const char *text, size_t len, unsigned base, uint64_t max, uint64_t *n_r);

#endif
