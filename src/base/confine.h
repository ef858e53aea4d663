/* SPDX-License-Identifier: ISC */
/*
 * confine - what a process gives up once it has what it needs, for good.
 *
 * Who finds a way into a worker or a loop finds a process that can answer those it
 * is connected to and ask the database, and nothing else: no program to start, no
 * file to write, no port to open, no other process to look into.
 *
 * Of the three steps the first is for all, the second the master's, the third a
 * worker's, a loop's and that of the look that --check takes at the start.  None can
 * be undone, and children have what their parent has.
 * What this kernel or whatever we run in does not have is left out, not an error.
 * Runs in: all processes, once each.  Does not block.  Logs what is refused, once
 * for each call and process; what was left out at debug.
 */
#ifndef CONFINE_H
#define CONFINE_H

#include <stdbool.h>
#include <stddef.h>

enum confine_role { CONFINE_MASTER, CONFINE_WORKER, CONFINE_LOOP, CONFINE_ROLES };

/*
 * No new privileges, and files for nobody else.  has_secret: nor does another
 * process of this user look into our memory.  Whoever does not want the others
 * leaves this one out.
 */
void	confine_start(bool has_secret);

/* The master may write and remove beside this path, which stays the caller's. */
void	confine_keep_beside(const char *path);

/* From here on only what this role needs.  Nothing happens without confine_start. */
void	confine(enum confine_role role);

/* What there is of it here, in words: "system calls, files (Landlock 6)". */
const char *confine_means(char *out, size_t size);

#endif
