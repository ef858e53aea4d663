/* SPDX-License-Identifier: ISC */
/*
 * checkup - `seatcast --check`: connect as configured and say what is wrong and how to mend it.
 *
 * Runs in: main, instead of serving, and prints one line per finding on stdout; and
 * at each start in a process of its own, which logs what that would be in one
 * line and ends.  Blocks on the database, so nothing waits for it.
 */
#ifndef CHECKUP_H
#define CHECKUP_H

struct opts;

int	check_main(const struct opts *o);	/* exit status: 0 all well (warnings allowed), 1 not */
void	check_at_start(const struct opts *o);	/* forks and returns at once */

#endif
