/* SPDX-License-Identifier: ISC */
/*
 * complaint - what the database refused, said to the operator once and counted.
 *
 * Many buyers meet the same mistake (a right that is missing, say): a line for each
 * of them would hide everything else.  So one line for a cause (its SQLSTATE) in a
 * while, from one of the workers.
 * Runs in: worker.  Logs; never blocks.
 */
#ifndef COMPLAINT_H
#define COMPLAINT_H

struct board;
struct board_slot;
struct db_answer;

void	complain(const struct board *board, struct board_slot *slot, const struct db_answer *a);

#endif
