/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "shared/db.h"
#include "worker/crowd.h"
#include "worker/request.h"
#include "worker/writes.h"

struct crowd {
	struct request	*members[WRITES_MAX];
	size_t		 n;
};

static int
by_client(const void *a, const void *b)
{
	const struct request *const *x = a, *const *y = b;

	return (strcmp((*x)->peer.client, (*y)->peer.client));
}

/* Those whose write may still be taken back, in the order of clients. */
static void
gather(struct crowd *c, const struct service *s)
{
	struct request *rq;

	c->n = 0;
	DL_FOREACH(s->requests, rq)
		if (rq->state != NULL && rq->peer.client[0] != '\0' && db_is_waiting(&rq->query) && c->n < WRITES_MAX)
			c->members[c->n++] = rq;
	qsort(c->members, c->n, sizeof(c->members[0]), by_client);
}

static struct request *
newest(struct request *const *members, size_t n)
{
	struct request	*last = members[0];
	size_t		 i;

	for (i = 1; i < n; i++)
		if (members[i]->accepted_ms > last->accepted_ms)
			last = members[i];
	return (last);
}

struct request *
crowd_gives_way(const struct request *newcomer)
{
	struct crowd	 c;
	size_t		 i, n, most = 0, first = 0, own = 0;

	if (newcomer->peer.client[0] == '\0')
		return (NULL);
	gather(&c, newcomer->service);
	for (i = 0; i < c.n; i += n) {
		for (n = 1; i + n < c.n && by_client(&c.members[i], &c.members[i + n]) == 0; n++)
			;
		if (strcmp(c.members[i]->peer.client, newcomer->peer.client) == 0)
			own = n;
		if (n > most) {
			most = n;
			first = i;
		}
	}
	return (most > own + 1 ? newest(&c.members[first], most) : NULL);
}
