/* SPDX-License-Identifier: ISC */
/*
 * stream - what a loop answers: streams, snapshots and changes of a block or a match.
 *
 * A group that is live is looked up on the scoreboard, and its request handed over at
 * once; only for one that is not is the database asked whether match and blocks exist,
 * unless it has just said so; so a flood of made-up ids costs no process and no new connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/must.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "wire/http.h"
#include "worker/request.h"

#define EXISTS_TIMEOUT_MS	5000	/* how long a stream request waits for the database: SPEC 1 */
#define BLOCKS_BYTES		512	/* sixteen of the longest ids, and commas */

/* What a route asks a loop for. */
static const struct ask {
	enum route_action	 route;
	enum chan_kind		 kind;
	enum view_kind		 view;
	const char		*since;		/* the query parameter with the id of what it has; NULL: none */
	bool			 header;	/* or Last-Event-ID */
} asks[] = {
	{ ROUTE_STREAM,		CHAN_STREAM,	VIEW_BLOCK,	"lastEventId",	true },
	{ ROUTE_SNAPSHOT,	CHAN_SNAPSHOT,	VIEW_BLOCK,	NULL,		false },
	{ ROUTE_CHANGES,	CHAN_CHANGES,	VIEW_BLOCK,	"since",	false },
	{ ROUTE_MATCH_STREAM,	CHAN_STREAM,	VIEW_MATCH,	"lastEventId",	true },
	{ ROUTE_COUNTS,		CHAN_SNAPSHOT,	VIEW_MATCH,	NULL,		false },
};

static const struct ask *
ask_of(const struct request *rq)
{
	size_t i;

	for (i = 0; i < nitems(asks) && asks[i].route != rq->route.action; i++)
		;
	must(i < nitems(asks));
	return (&asks[i]);
}

/* --- what is asked for --------------------------------------------------------- */

static int
by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return ((x > y) - (x < y));
}

/* "101,102" into the view, in ascending order; "" is none.  -1: malformed, two equal ones, or too many. */
static int
read_blocks(const char *text, struct view *view)
{
	size_t n, i;

	for (; *text != '\0'; text += n) {
		n = strcspn(text, ",");
		if (view->nblocks == VIEW_MAX_BLOCKS || route_id(text, n, &view->blocks[view->nblocks]) == -1)
			return (-1);
		view->nblocks++;
		if (text[n] == ',' && text[++n] == '\0')
			return (-1);
	}
	qsort(view->blocks, view->nblocks, sizeof(view->blocks[0]), by_value);
	for (i = 1; i < view->nblocks; i++)
		if (view->blocks[i] == view->blocks[i - 1])
			return (-1);
	return (0);
}

/* The group and what of it is to be seen.  -1: malformed. */
static int
read_view(const struct request *rq, struct group_key *key_r, struct view *view_r)
{
	char blocks[BLOCKS_BYTES];

	memset(view_r, 0, sizeof(*view_r));
	view_r->kind = ask_of(rq)->view;
	key_r->match_id = rq->route.ids[0];
	if (view_r->kind == VIEW_BLOCK) {
		key_r->block_id = view_r->blocks[0] = rq->route.ids[1];
		view_r->nblocks = 1;
		return (0);
	}
	key_r->block_id = GROUP_WHOLE_MATCH;
	if (rq->route.action != ROUTE_MATCH_STREAM)
		return (0);
	if (route_query(request_param(rq, "QUERY_STRING"), "blocks", blocks, sizeof(blocks)) == -1)
		return (errno == ENOENT ? 0 : -1);
	return (read_blocks(blocks, view_r));
}

/* The id of what the client has; none: all 0; what is not an id of ours: epoch 0, version 1. */
static struct stream_id
resume_id(const struct request *rq, const struct ask *ask)
{
	const char	*text = ask->header ? request_param(rq, "HTTP_LAST_EVENT_ID") : NULL;
	char		 value[STREAM_ID_BYTES];
	struct stream_id id = { 0, 0 };

	if (text == NULL && ask->since != NULL) {
		if (route_query(request_param(rq, "QUERY_STRING"), ask->since, value, sizeof(value)) == 0)
			text = value;
		else if (errno != ENOENT)
			text = "?";
	}
	if (text != NULL && text[0] != '\0' && stream_id_parse(text, &id) == -1)
		id = (struct stream_id){ 0, 1 };
	return (id);
}

static void
fill_handover(const struct request *rq, struct chan_handover *h)
{
	const struct ask	*ask = ask_of(rq);
	const char		*tags = request_param(rq, "HTTP_IF_NONE_MATCH");

	memset(h, 0, sizeof(*h));
	(void)read_view(rq, &h->key, &h->view);
	h->accepted_ms = rq->accepted_ms;
	h->resume = resume_id(rq, ask);
	h->request_id = rq->id;
	h->kind = (uint8_t)ask->kind;
	h->sse = ask->kind == CHAN_STREAM && http_accepts_sse(request_param(rq, "HTTP_ACCEPT"));
	h->head = rq->route.head;
	if (tags != NULL && strlen(tags) < sizeof(h->if_none_match))
		strcpy(h->if_none_match, tags);
	strcpy(h->origin, rq->peer.origin);
	strcpy(h->client, rq->peer.client);
}

/* --- handing over ---------------------------------------------------------------- */

struct giving {
	struct chan		*master;
	struct chan_handover	 handover;
};

static int
give(void *arg, int *fd)
{
	struct giving *g = arg;

	return (chan_send(g->master, CHAN_HANDOVER, &g->handover, fd));
}

/* It exists: its loop is to answer, through the master. */
static void
hand_over(struct request *rq)
{
	struct service	*s = rq->service;
	struct giving	 g = { .master = s->master };

	fill_handover(rq, &g.handover);
	if (request_hand_over(rq, give, &g) == -1) {
		if (!s->overloaded)
			log_warn("hand-over: the master does not take it");
		s->overloaded = true;
		request_refuse(rq, REFUSAL_OVERLOAD);
	} else {
		s->overloaded = false;
		board_add(s->slot, BOARD_handovers, 1);
	}
}

static void
on_exists(void *arg, enum exists_answer answer)
{
	struct request *rq = arg;

	if (answer == EXISTS_UNKNOWN)
		request_refuse(rq, REFUSAL_DATABASE);
	else if (answer == EXISTS_NO)
		request_error(rq, 404, "no such match or block");
	else if (rq->service->draining)
		request_refuse(rq, REFUSAL_DRAINING);
	else
		hand_over(rq);
}

void
action_stream(struct request *rq)
{
	struct service	*s = rq->service;
	struct group_key key;
	struct view	 view;

	if (read_view(rq, &key, &view) == -1) {
		request_error(rq, 400, "blocks is to be up to 16 different ids, separated by commas");
		return;
	}
	if (s->draining)
		request_refuse(rq, REFUSAL_DRAINING);
	else if ((view.kind == VIEW_BLOCK || view.nblocks == 0) && board_group_live(s->board, key.match_id, key.block_id))
		hand_over(rq);
	else if (exists_known(s->exists, key.match_id, &view))
		hand_over(rq);
	else {
		rq->asker.done = on_exists;
		rq->asker.arg = rq;
		if (exists_ask(s->exists, key.match_id, &view, EXISTS_TIMEOUT_MS, &rq->asker) == -1)
			request_refuse(rq, REFUSAL_OVERLOAD);
	}
}
