/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "base/buf.h"
#include "base/mono.h"
#include "base/must.h"
#include "shared/db.h"
#include "worker/complaint.h"
#include "worker/exists.h"

#define SQL_BLOCK	"SELECT seatcast.block_exists($1::bigint, $2::bigint)"
#define SQL_BLOCKS	"SELECT seatcast.blocks_exist($1::bigint, $2::bigint[])"

#define KNOWN_MS	2000	/* a block that is taken away is shown empty for so long at most, and not refused */
#define MAX_KNOWN	4096

/* The database has just said that it exists. */
struct known {
	UT_hash_handle		 hh;		/* in the order of age */
	struct group_key	 key;		/* a block, or the match itself */
	int64_t			 until_ms;	/* monotonic */
};

struct question {
	int64_t		match_id;
	struct view	view;
};

struct lookup {
	UT_hash_handle		 hh;
	struct question		 question;
	struct exists		*exists;
	struct db_query		 query;
	char			 match[24];
	struct buf		 blocks;
	struct exists_asker	*askers;
	bool			 answering;	/* no longer to be found; freed with its last asker */
};

struct exists {
	struct ev_loop		*ev;
	struct db		*db;
	const struct board	*board;
	struct board_slot	*slot;
	struct lookup		*lookups;
	struct known		*known;
};

/* --- what was answered just now ------------------------------------------------ */

static void
forget(struct exists *e, struct known *k)
{
	HASH_DEL(e->known, k);
	free(k);
}

static void
forget_old(struct exists *e, int64_t now_ms)
{
	while (e->known != NULL && (e->known->until_ms <= now_ms || HASH_COUNT(e->known) >= MAX_KNOWN))
		forget(e, e->known);	/* the first is the oldest */
}

static void
remember(struct exists *e, struct group_key key)
{
	int64_t		 now = mono_ms();
	struct known	*k;

	HASH_FIND(hh, e->known, &key, sizeof(key), k);
	if (k != NULL)
		forget(e, k);
	forget_old(e, now);
	if ((k = calloc(1, sizeof(*k))) == NULL)
		return;			/* it will be asked for again */
	k->key = key;
	k->until_ms = now + KNOWN_MS;
	HASH_ADD(hh, e->known, key, sizeof(k->key), k);
	if (k->hh.tbl == NULL)		/* HASH_NONFATAL_OOM */
		free(k);
}

static void
remember_all(struct exists *e, const struct question *q)
{
	unsigned i;

	remember(e, (struct group_key){ q->match_id, GROUP_WHOLE_MATCH });
	for (i = 0; i < q->view.nblocks; i++)
		remember(e, (struct group_key){ q->match_id, q->view.blocks[i] });
}

static bool
knows(const struct exists *e, struct group_key key, int64_t now_ms)
{
	const struct known *k;

	HASH_FIND(hh, e->known, &key, sizeof(key), k);
	return (k != NULL && k->until_ms > now_ms);
}

bool
exists_known(const struct exists *e, int64_t match_id, const struct view *view)
{
	int64_t	 now = mono_ms();
	unsigned i;

	for (i = 0; i < view->nblocks; i++)
		if (!knows(e, (struct group_key){ match_id, view->blocks[i] }, now))
			return (false);
	return (view->nblocks > 0 || knows(e, (struct group_key){ match_id, GROUP_WHOLE_MATCH }, now));
}

/* --- asking -------------------------------------------------------------------- */

static void
lookup_end(struct lookup *l)
{
	if (!l->answering)
		HASH_DEL(l->exists->lookups, l);
	db_cancel(&l->query);
	buf_fini(&l->blocks);
	free(l);
}

/* The asker waits no more; its lookup ends with the last one. */
static void
leave(struct exists_asker *asker)
{
	struct lookup *l = asker->lookup;

	ev_timer_stop(l->exists->ev, &asker->patience);
	DL_DELETE(l->askers, asker);
	asker->lookup = NULL;
	if (l->askers == NULL && !l->answering)
		lookup_end(l);
}

static void
on_impatient(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct exists_asker *asker = t->data;

	(void)ev;
	(void)revents;
	leave(asker);
	asker->done(asker->arg, EXISTS_UNKNOWN);
}

static void
on_answer(struct db_query *q, const struct db_answer *a)
{
	struct lookup		*l = q->arg;
	struct exists_asker	*asker;
	enum exists_answer	 answer = EXISTS_UNKNOWN;

	if (a->result == NULL && a->sqlstate[0] == '\0') {
		db_submit(l->exists->db, q);	/* no database yet: how long to wait is for each asker to say */
		return;
	}
	if (a->result == NULL)
		complain(l->exists->board, l->exists->slot, a);
	else
		answer = PQntuples(a->result) == 1 && strcmp(PQgetvalue(a->result, 0, 0), "t") == 0 ? EXISTS_YES : EXISTS_NO;
	if (answer == EXISTS_YES)
		remember_all(l->exists, &l->question);
	HASH_DEL(l->exists->lookups, l);
	l->answering = true;
	while ((asker = l->askers) != NULL) {
		leave(asker);
		asker->done(asker->arg, answer);
	}
	lookup_end(l);
}

static void
put_blocks(struct buf *b, const struct view *view)
{
	unsigned i;

	if (view->kind == VIEW_BLOCK) {
		buf_printf(b, "%lld", (long long)view->blocks[0]);
		return;
	}
	buf_puts(b, "{");
	for (i = 0; i < view->nblocks; i++)
		buf_printf(b, "%s%lld", i == 0 ? "" : ",", (long long)view->blocks[i]);
	buf_puts(b, "}");
}

/* NULL: ENOMEM. */
static struct lookup *
lookup_new(struct exists *e, const struct question *question, int64_t timeout_ms)
{
	struct lookup *l;

	if ((l = calloc(1, sizeof(*l))) == NULL)
		return (NULL);
	l->exists = e;
	l->question = *question;
	snprintf(l->match, sizeof(l->match), "%lld", (long long)question->match_id);
	put_blocks(&l->blocks, &question->view);
	HASH_ADD(hh, e->lookups, question, sizeof(l->question), l);
	if (l->hh.tbl == NULL || !buf_ok(&l->blocks)) {	/* HASH_NONFATAL_OOM */
		if (l->hh.tbl != NULL)
			HASH_DEL(e->lookups, l);
		buf_fini(&l->blocks);
		free(l);
		return (NULL);
	}
	l->query.sql = question->view.kind == VIEW_BLOCK ? SQL_BLOCK : SQL_BLOCKS;
	l->query.params[0] = l->match;
	l->query.params[1] = l->blocks.data;
	l->query.nparams = 2;
	l->query.flags = DB_RETRY;
	l->query.timeout_ms = timeout_ms;
	l->query.done = on_answer;
	l->query.arg = l;
	db_submit(e->db, &l->query);
	return (l);
}

int
exists_ask(struct exists *e, int64_t match_id, const struct view *view, int64_t timeout_ms, struct exists_asker *asker)
{
	struct question	 question;
	struct lookup	*l;

	must(asker->lookup == NULL);
	memset(&question, 0, sizeof(question));
	question.match_id = match_id;
	question.view = *view;
	HASH_FIND(hh, e->lookups, &question, sizeof(question), l);
	if (l == NULL && (l = lookup_new(e, &question, timeout_ms)) == NULL)
		return (-1);
	asker->lookup = l;
	DL_APPEND(l->askers, asker);
	ev_timer_init(&asker->patience, on_impatient, (double)timeout_ms / 1000, 0.);
	asker->patience.data = asker;
	ev_now_update(e->ev);
	ev_timer_start(e->ev, &asker->patience);
	return (0);
}

void
exists_forget(struct exists_asker *asker)
{
	if (asker->lookup != NULL)
		leave(asker);
}

struct exists *
exists_new(struct ev_loop *ev, struct db *db, const struct board *board, struct board_slot *slot)
{
	struct exists *e;

	if ((e = calloc(1, sizeof(*e))) == NULL)
		return (NULL);
	e->ev = ev;
	e->db = db;
	e->board = board;
	e->slot = slot;
	return (e);
}

void
exists_free(struct exists **ep)
{
	if (*ep == NULL)
		return;
	must((*ep)->lookups == NULL);
	while ((*ep)->known != NULL)
		forget(*ep, (*ep)->known);
	free(*ep);
	*ep = NULL;
}
