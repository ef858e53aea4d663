/* SPDX-License-Identifier: ISC */
/*
 * title - what ps(1) shows for a process: "seatcast: loop 1/101".
 * Runs in: main (init, before any fork), then every process once.
 */
#ifndef TITLE_H
#define TITLE_H

void	title_init(int argc, char **argv);
void	title_set(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
