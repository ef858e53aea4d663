/* SPDX-License-Identifier: ISC */
/*
 * mono - milliseconds and microseconds of the monotonic clock, which no
 * administrator steps and all processes of a machine share (clock_gettime(2)).
 * Its own object file, so that a simulation can put another clock in its place.
 */
#ifndef MONO_H
#define MONO_H

#include <stdint.h>

int64_t	mono_us(void);
int64_t	mono_ms(void);

#endif
