/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "master/client.h"

struct attendant {
	struct client		*client;
	size_t			 connections;
	UT_hash_handle		 hh;
};

struct connection {
	uint64_t		 number;
	struct attendant	*attendant;
	bool			 stream;
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

int
client_come(struct clients *cs, struct attendance *a, const char *name, uint64_t number, bool stream)
{
	struct client		*c = client_get(cs, name);
	struct attendant	*at = c != NULL ? attendant_get(a, c) : NULL;
	struct connection	*n = at != NULL ? calloc(1, sizeof(*n)) : NULL;

	if (n != NULL) {
		n->number = number;
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
	if (stream) {
		c->streams++;
		cs->streams++;
	}
	return (0);
}

static void
forget(struct clients *cs, struct attendance *a, struct connection *n)
{
	struct attendant	*at = n->attendant;
	struct client		*c = at->client;

	at->connections--;
	c->connections--;
	if (n->stream) {
		c->streams--;
		cs->streams--;
	}
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
