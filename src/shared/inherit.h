/* SPDX-License-Identifier: ISC */
/*
 * inherit - all that a child has at birth.
 *
 * The master fills one struct and forks: a child gets nothing else from it.
 * The scoreboard is shared; the slot in it is the child's own until it dies.
 * channel_fd is the child's end of a SOCK_SEQPACKET pair; when the other end
 * closes the master is gone and the child ends.
 */
#ifndef INHERIT_H
#define INHERIT_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/group.h"

struct board;
struct board_slot;
struct opts;

struct inherit {
	const struct opts	*opts;
	const struct board	*board;
	struct board_slot	*slot;
	int			 channel_fd;	/* owned by the child */
	int			 listen_fd;	/* workers: shared, non-blocking; loops: -1 */
	struct group_key	 key;		/* loops: the group */
	bool			 draining;	/* a worker in place of one that died in a drain */
	bool			 alone;		/* a worker without a master: it ends with its first request */
};

/* The entries of the processes: they return the exit status and never fork. */
int	master_main(const struct opts *o, int listen_fd, int control_fd);	/* either -1: none */
int	join_main(const struct opts *o);	/* a worker of the master at --join; serves descriptor 0 */
int	worker_main(const struct inherit *in);
int	loop_main(const struct inherit *in);

#endif
