/* SPDX-License-Identifier: ISC */
/*
 * libbsd's setproctitle marks a title shorter than the original argv[0] with a
 * dot at that length; blanks keep it from doing so, and ps doesn't show them.
 */
#include <bsd/unistd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/title.h"

extern char	**environ;
static int	  width;

void
title_init(int argc, char **argv)
{
	width = argc > 0 ? (int)strlen(argv[0]) - (int)strlen("seatcast: ") : 0;
	setproctitle_init(argc, argv, environ);
}

void
title_set(const char *fmt, ...)
{
	char	title[128];
	va_list	ap;

	va_start(ap, fmt);
	vsnprintf(title, sizeof(title), fmt, ap);
	va_end(ap);
	setproctitle("%-*s", width > 0 ? width : 0, title);
}
