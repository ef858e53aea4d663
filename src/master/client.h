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

struct client {
	char		 name[CHAN_CLIENT_BYTES];
	size_t		 connections;
	size_t		 streams;
	size_t		 alone;		/* loops that nobody else has a connection at */
	UT_hash_handle	 hh;
};

struct clients {
	struct client	*all;
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

#endif
