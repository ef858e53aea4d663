/* SPDX-License-Identifier: ISC */
/*
 * crowd - when the queue of writes is full: whose gives way to one that comes.
 *
 * Room is shared out fairly among clients, as the master does it with groups and
 * streams: the newest write that has not gone to the database, of the client that has
 * most of them, if that leaves it more than the one who comes will have.
 * Runs in: worker.  Does not block.  Its time grows with the queue, which has an end.
 */
#ifndef CROWD_H
#define CROWD_H

struct request;

/* NULL: nobody's; all have about as much, or who comes is not known (--client-param). */
struct request	*crowd_gives_way(const struct request *newcomer);

#endif
