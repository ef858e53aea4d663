/* SPDX-License-Identifier: ISC */
/*
 * fuzz opts: each line is an argument.  What must hold: a bad command line has
 * one line to print, and it does not crash.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/opts.h"

#define MAX_ARGS	16

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct opts	 o;
	char		*text, *rest, *argv[MAX_ARGS + 1] = { NULL };
	char		 name[] = "seatcast", error[80];
	long		 ms;
	int		 argc;

	if ((text = malloc(size + 1)) == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	if (opts_duration(text, &ms) == 0)
		must(ms >= 0);
	argv[0] = name;
	for (argc = 1, rest = text; argc < MAX_ARGS && rest != NULL; argc++)
		argv[argc] = strsep(&rest, "\n");
	memset(error, 'x', sizeof(error));
	if (opts_parse(&o, argc, argv, error, sizeof(error)) == OPTS_BAD) {
		must(memchr(error, '\0', sizeof(error)) != NULL && error[0] != '\0');
		must(strchr(error, '\n') == NULL);
	}
	free(text);
	return (0);
}
