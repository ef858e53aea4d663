/* SPDX-License-Identifier: ISC */
/*
 * client - who has how much of what there is: connections, streams and groups of
 * each client, as the master saw them come and hears of their ends.
 *
 * A client is what --client-param says of a request: an address, as a rule.  Each
 * hand-over is one connection of it at one loop, under the number of its ADOPT
 * message, until the loop tells that it has ended (GONE) or ends itself.  So the
 * figures are exact, and nobody else can write them.  Who is not known ("") is
 * counted like one client, and is never called greedy.
 * Runs in: master.  Pure: no descriptor, no clock, no log.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uthash.h>

#include "shared/chan.h"

struct connection;

struct client {
	char		 name[CHAN_CLIENT_BYTES];
	size_t		 connections;
	size_t		 streams;
	size_t		 alone;		/* loops that nobody else has a connection at */
	struct connection *newest;	/* of its streams */
	struct client	*prev, *next;	/* with as many streams */
	UT_hash_handle	 hh;
};

#define CLIENT_MANY	64		/* who has more streams is not told from who has that many */

struct clients {
	struct client	*all;
	struct client	*by_streams[CLIENT_MANY + 1];	/* not who is not known */
	size_t		 streams;	/* of all of them */
};

/* Who has connections at one loop. */
struct attendance {
	struct attendant *by_client;
	struct connection *by_number;
};

/* -1: ENOMEM, and nothing is changed. */
int	client_come(struct clients *cs, struct attendance *a, const char *name, uint64_t number, bool stream);
void	client_go(struct clients *cs, struct attendance *a, uint64_t number);	/* a number that is not there is none of anybody's */
void	client_all_go(struct clients *cs, struct attendance *a);	/* the loop has ended */

size_t	client_connections(const struct attendance *a);
const struct client *client_find(const struct clients *cs, const char *name);	/* NULL: has nothing */
const struct client *client_only(const struct attendance *a);	/* who alone is here; NULL: nobody, or several */

/* Who has most streams, if it has more than so many; NULL: nobody.  In a time that does not grow with clients. */
const struct client *client_greediest(const struct clients *cs, size_t than);
/* Its newest stream: the number, and where it is. */
const struct attendance *client_newest(const struct client *c, uint64_t *number_r);

#endif
