/*
 * mono - milliseconds and microseconds of the monotonic clock, which no
 * administrator steps and all processes of a machine share (clock_gettime(2)).
 */
#ifndef MONO_H
#define MONO_H

#include <stdint.h>
#include <time.h>

static inline int64_t
mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}

static inline int64_t
mono_ms(void)
{
	return (mono_us() / 1000);
}

#endif
