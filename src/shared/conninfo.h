/* SPDX-License-Identifier: ISC */
/*
 * conninfo - what people give us to connect with, and what to tell them when it does
 * not let us in.
 *
 * Runs in: every process.  Connects nowhere, blocks never.
 * Source: PostgreSQL documentation 34.1.1 (Connection Strings).
 */
#ifndef CONNINFO_H
#define CONNINFO_H

#include <stdbool.h>

/* Before any fork: what libpq asks the system for is asked once. */
void		 conninfo_prepare(void);

/* Can libpq read it, and without showing parts of a password as something else? */
bool		 conninfo_ok(const char *conninfo);

/* Is a password in it, or in libpq's environment? */
bool		 conninfo_has_password(const char *conninfo);

/* An attempt's error that waiting does not mend: what does.  Static text; NULL: waiting may. */
const char	*conninfo_advice(const char *error);

#endif
