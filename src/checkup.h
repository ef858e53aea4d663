/*
 * checkup - `seatcast --check`: connect as configured and say what is wrong and how to mend it.
 *
 * Runs in: main, instead of serving.  Blocks on the database.  Prints one line
 * per finding on stdout.
 */
#ifndef CHECKUP_H
#define CHECKUP_H

struct opts;

int	check_main(const struct opts *o);	/* exit status: 0 all well (warnings allowed), 1 not */

#endif
