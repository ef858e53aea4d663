/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <utlist.h>

#include "base/must.h"
#include "master/client.h"

struct attendant {
	struct client		*client;
	size_t			 connections;
	UT_hash_handle		 hh;
};

struct connection {
	uint64_t		 number;
	struct attendance	*at;
	struct attendant	*attendant;
	bool			 stream;
	struct connection	*prev, *next;	/* streams of its client, the newest first */
	UT_hash_handle		 hh;
};

static struct client *
client_get(struct clients *cs, const char *name)
{
	struct client *c;

	HASH_FIND_STR(cs->all, name, c);
	if (c != NULL || (c = calloc(1, sizeof(*c))) == NULL)
		return (c);
	snprintf(c->name, sizeof(c->name), "%s", name);
	HASH_ADD_STR(cs->all, name, c);
	if (c->hh.tbl == NULL) {	/* HASH_NONFATAL_OOM */
		free(c);
		return (NULL);
	}
	return (c);
}

static void
client_put(struct clients *cs, struct client *c)
{
	if (c == NULL || c->connections != 0)
		return;
	must(c->streams == 0 && c->alone == 0);
	HASH_DEL(cs->all, c);
	free(c);
}

/* Before and after who is here changes: whoever is alone is counted as that. */
static void
count_alone(struct attendance *a, int by)
{
	if (HASH_COUNT(a->by_client) == 1)
		a->by_client->client->alone += (size_t)by;
}

static struct attendant *
attendant_get(struct attendance *a, struct client *client)
{
	struct attendant *at;

	HASH_FIND_PTR(a->by_client, &client, at);
	if (at != NULL || (at = calloc(1, sizeof(*at))) == NULL)
		return (at);
	at->client = client;
	count_alone(a, -1);
	HASH_ADD_PTR(a->by_client, client, at);
	if (at->hh.tbl == NULL) {
		free(at);
		at = NULL;
	}
	count_alone(a, 1);
	return (at);
}

static void
attendant_put(struct attendance *a, struct attendant *at)
{
	if (at == NULL || at->connections != 0)
		return;
	count_alone(a, -1);
	HASH_DEL(a->by_client, at);
	count_alone(a, 1);
	free(at);
}

static struct client **
of_as_many(struct clients *cs, const struct client *c)
{
	return (&cs->by_streams[c->streams < CLIENT_MANY ? c->streams : CLIENT_MANY]);
}

/* One stream more or less: the one place that counts them. */
static void
count_stream(struct clients *cs, struct connection *n, int by)
{
	struct client *c = n->attendant->client;

	if (c->streams != 0 && c->name[0] != '\0')
		DL_DELETE(*of_as_many(cs, c), c);
	if (by > 0)
		DL_PREPEND(c->newest, n);
	else
		DL_DELETE(c->newest, n);
	c->streams += (size_t)by;
	cs->streams += (size_t)by;
	if (c->streams != 0 && c->name[0] != '\0')
		DL_PREPEND(*of_as_many(cs, c), c);
}

int
client_come(struct clients *cs, struct attendance *a, const char *name, uint64_t number, bool stream)
{
	struct client		*c = client_get(cs, name);
	struct attendant	*at = c != NULL ? attendant_get(a, c) : NULL;
	struct connection	*n = at != NULL ? calloc(1, sizeof(*n)) : NULL;

	if (n != NULL) {
		n->number = number;
		n->at = a;
		n->attendant = at;
		n->stream = stream;
		HASH_ADD(hh, a->by_number, number, sizeof(n->number), n);
	}
	if (n == NULL || n->hh.tbl == NULL) {
		free(n);
		attendant_put(a, at);
		client_put(cs, c);
		errno = ENOMEM;
		return (-1);
	}
	at->connections++;
	c->connections++;
	if (stream)
		count_stream(cs, n, 1);
	return (0);
}

static void
forget(struct clients *cs, struct attendance *a, struct connection *n)
{
	struct attendant	*at = n->attendant;
	struct client		*c = at->client;

	at->connections--;
	c->connections--;
	if (n->stream)
		count_stream(cs, n, -1);
	HASH_DEL(a->by_number, n);
	free(n);
	attendant_put(a, at);
	client_put(cs, c);
}

void
client_go(struct clients *cs, struct attendance *a, uint64_t number)
{
	struct connection *n;

	HASH_FIND(hh, a->by_number, &number, sizeof(number), n);
	if (n != NULL)
		forget(cs, a, n);
}

void
client_all_go(struct clients *cs, struct attendance *a)
{
	struct connection *n, *next;

	HASH_ITER(hh, a->by_number, n, next)
		forget(cs, a, n);
}

size_t
client_connections(const struct attendance *a)
{
	return (HASH_COUNT(a->by_number));
}

const struct client *
client_find(const struct clients *cs, const char *name)
{
	struct client *c;

	HASH_FIND_STR(cs->all, name, c);
	return (c);
}

const struct client *
client_only(const struct attendance *a)
{
	return (HASH_COUNT(a->by_client) == 1 ? a->by_client->client : NULL);
}

const struct client *
client_greediest(const struct clients *cs, size_t than)
{
	size_t i;

	for (i = CLIENT_MANY; i > 0; i--)
		if (cs->by_streams[i] != NULL)
			return (cs->by_streams[i]->streams > than ? cs->by_streams[i] : NULL);
	return (NULL);
}

const struct attendance *
client_newest(const struct client *c, uint64_t *number_r)
{
	must(c->newest != NULL);
	*number_r = c->newest->number;
	return (c->newest->at);
}
