/* SPDX-License-Identifier: ISC */
/*
 * opts - the command line and the environment, checked, as one struct.
 *
 * One table (opts_tbl.h) makes fields, flags, variables, bounds and --help.  A
 * flag wins over its variable, which is then not even looked at; an empty
 * variable counts as not set.  Nothing else reads options' variables.
 * Runs in: main, once.  Strings point into argv or the environment.
 */
#ifndef OPTS_H
#define OPTS_H

#include <stddef.h>
#include <stdio.h>

#include "base/log.h"

enum opts_target { OPTS_STDERR, OPTS_SYSLOG };

#define OPTS_C_STRING	const char *
#define OPTS_C_ORIGINS	const char *
#define OPTS_C_PREFIX	const char *
#define OPTS_C_DURATION	long
#define OPTS_C_NUMBER	long
#define OPTS_C_MODE	long
#define OPTS_C_LEVEL	enum log_level
#define OPTS_C_TARGET	enum opts_target
#define OPTS_C_FLAG	int
struct opts {
#define OPT(field, name, TYPE, def, min, max, metavar, text)	OPTS_C_##TYPE field;
#include "base/opts_tbl.h"
#undef OPT
};

enum opts_result {
	OPTS_RUN,		/* go on */
	OPTS_HELP,		/* --help was asked for */
	OPTS_VERSION,		/* --version was asked for */
	OPTS_BAD		/* error_r has the one line to print; exit status 2 */
};

/*
 * Read argv, then the environment (SEATCAST_NAME) for what argv did not say.
 * "--name value" and "--name=value" (the latter only, when value starts with
 * "--"); a FLAG takes no value there, and "1", "0", "yes", "no" in the
 * environment.  The last of several counts.  --help and --version end it.
 * An operand, an unknown option, a missing or bad value: OPTS_BAD and one line
 * without newline in error_r that says which, why and what is allowed.
 */
enum opts_result opts_parse(struct opts *o_r, int argc, char **argv, char *error_r, size_t size);

/* The whole of --help: usage, each option with variable, default and text. */
void	opts_help(FILE *out);

/* "250ms", "15s", "5m", "0": milliseconds.  A bare number other than 0 is refused.  0 or -1. */
int	opts_duration(const char *text, long *ms_r);

#endif
