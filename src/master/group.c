/*
 * The hand-over of a connection: worker, master, loop.  The master keeps a
 * duplicate of each until the loop says on the board that its answer has begun
 * (a transfer); what a dying loop had not begun goes to the next one.  A loop that
 * is idle makes room for another group when --max-groups is reached.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "master/master.h"
#include "shared/refusal.h"

static struct group *
group_find(struct master *m, const struct group_key *key)
{
	struct group *g;

	HASH_FIND(hh, m->groups, key, sizeof(*key), g);
	return (g);
}

/* NULL: ENOMEM. */
static struct group *
group_get(struct master *m, const struct group_key *key)
{
	struct group *g = group_find(m, key);

	if (g != NULL || (g = calloc(1, sizeof(*g))) == NULL)
		return (g);
	g->key = *key;
	HASH_ADD(hh, m->groups, key, sizeof(g->key), g);
	if (g->hh.tbl == NULL) {	/* HASH_NONFATAL_OOM */
		free(g);
		return (NULL);
	}
	return (g);
}

static void
group_forget(struct master *m, struct group *g)
{
	HASH_DEL(m->groups, g);
	free(g);
}

/* The group has no loop any more.  Forgotten unless it has to back off. */
void
group_detach(struct master *m, struct child *c)
{
	struct group *g = group_find(m, &c->key);

	if (g != NULL && g->loop == c) {
		g->loop = NULL;
		atomic_store_explicit(&c->slot->live, 0, memory_order_release);
	}
	if (g != NULL && g->loop == NULL && g->backoff.deaths == 0)
		group_forget(m, g);
}

/*
 * Give the connection back to the worker it came from, which answers it politely;
 * if that is gone or takes nothing, to another that we have forked ourselves.
 * Never to one that joined and had not had it before.
 */
static void
refuse(struct master *m, uint64_t from, const struct chan_handover *h, int fd, enum refusal_reason reason)
{
	struct chan_refusal	 r = { *h, reason };
	struct child		*c;

	DL_SEARCH_SCALAR(m->children, c, id, from);
	if (c != NULL && chan_send(&c->chan, CHAN_REFUSE, &r, &fd) == 0)
		return;
	DL_FOREACH(m->children, c)
		if (c->kind == BOARD_WORKER && !c->joined && c->id != from && chan_send(&c->chan, CHAN_REFUSE, &r, &fd) == 0)
			return;
	fd_close(&fd);
}

/* Streams attached, and on their way to a loop. */
static int64_t
streams_now(const struct master *m)
{
	const struct child	*c;
	int64_t			 n = 0;

	DL_FOREACH(m->children, c)
		if (c->kind == BOARD_LOOP)
			n += board_get(c->slot, BOARD_viewers) + (int64_t)c->sent - board_get(c->slot, BOARD_adopted);
	return (n);
}

static bool
is_idle(const struct child *c)
{
	return (c->kind == BOARD_LOOP && !c->expected && c->ready &&
	    board_get(c->slot, BOARD_adopted) == (int64_t)c->sent && board_get(c->slot, BOARD_connections) == 0);
}

void
group_let_go(struct child *c)
{
	if (chan_send(&c->chan, CHAN_LEAVE, NULL, NULL) == -1)
		return;
	c->expected = true;
	group_detach(c->master, c);
}

/* Is there room for one more loop?  One that lingers without viewers makes it. */
static bool
make_room(struct master *m)
{
	struct child *c;

	if (child_count(m, BOARD_LOOP, true) < (size_t)m->opts->max_groups)
		return (true);
	DL_FOREACH(m->children, c)
		if (is_idle(c)) {
			group_let_go(c);
			return (c->expected);
		}
	return (false);
}

/* The loop of a group, forked if there is none.  NULL: *reason_r says why not. */
static struct child *
group_loop(struct master *m, const struct group_key *key, enum refusal_reason *reason_r)
{
	struct group	*g = group_find(m, key);
	char		 name[GROUP_NAME_BYTES];

	if (g != NULL && g->loop != NULL)
		return (g->loop);
	if (g != NULL && g->backoff.pause_ms != 0 && mono_ms() < g->backoff.until_ms) {
		*reason_r = REFUSAL_CRASHING;
		return (NULL);
	}
	*reason_r = REFUSAL_GROUPS;
	if (!make_room(m))
		return (NULL);
	*reason_r = REFUSAL_OVERLOAD;
	if ((g = group_get(m, key)) == NULL)
		return (NULL);
	if ((g->loop = child_spawn(m, BOARD_LOOP, key)) == NULL) {
		if (g->backoff.deaths == 0)
			group_forget(m, g);
		return (NULL);
	}
	atomic_store_explicit(&g->loop->slot->live, 1, memory_order_release);
	log_debug("loop %s: forked, pid %d", group_name(name, key), (int)g->loop->pid);
	return (g->loop);
}

/* Give up our duplicates of what the loop has begun to answer. */
bool
group_settle(struct child *loop)
{
	int64_t		 begun = board_get(loop->slot, BOARD_begun);
	struct transfer	*f;

	while ((f = loop->transfers) != NULL && (int64_t)f->number <= begun) {
		DL_DELETE(loop->transfers, f);
		fd_close(&f->fd);
		free(f);
	}
	return (loop->transfers != NULL);
}

static int
adopt(struct child *loop, uint64_t from, const struct chan_handover *h, int *fd)
{
	struct transfer	*f = malloc(sizeof(*f));
	int		 copy = fd_dup(*fd);

	(void)group_settle(loop);
	if (chan_send(&loop->chan, CHAN_ADOPT, h, fd) == -1) {
		fd_close(&copy);
		free(f);
		return (-1);
	}
	loop->sent++;
	if (f == NULL || copy == -1) {
		fd_close(&copy);	/* without a net, then */
		free(f);
		return (0);
	}
	f->number = loop->sent;
	f->handover = *h;
	f->from = from;
	f->fd = copy;
	DL_APPEND(loop->transfers, f);
	if (!ev_is_active(&loop->master->transfer_look))
		ev_timer_again(loop->master->ev, &loop->master->transfer_look);
	return (0);
}

void
group_handover(struct master *m, uint64_t from, const struct chan_handover *h, int fd)
{
	const struct group_key	*key = &h->key;
	struct child		*loop;
	enum refusal_reason	 reason;

	if (m->draining)
		refuse(m, from, h, fd, REFUSAL_DRAINING);
	else if (h->kind == CHAN_STREAM && streams_now(m) >= m->opts->max_streams)
		refuse(m, from, h, fd, REFUSAL_STREAMS);
	else if ((loop = group_loop(m, key, &reason)) == NULL)
		refuse(m, from, h, fd, reason);
	else if (adopt(loop, from, h, &fd) == 0)
		return;
	else if (errno == EPIPE || errno == ECONNRESET) {
		/* it has just died, and SIGCHLD is on its way: the group gets another one now */
		group_detach(m, loop);
		if ((loop = group_loop(m, key, &reason)) == NULL || adopt(loop, from, h, &fd) == -1)
			refuse(m, from, h, fd, loop == NULL ? reason : REFUSAL_OVERLOAD);
	} else
		refuse(m, from, h, fd, REFUSAL_OVERLOAD);
}

/* Who is behind with messages polls with his next tick anyway: nothing is kept for him. */
static void
tell_wrote(struct master *m, struct group_key key, const struct chan_wrote *wrote)
{
	struct group *g = group_find(m, &key);

	if (g != NULL && g->loop != NULL)
		(void)chan_send(&g->loop->chan, CHAN_WROTE, wrote, NULL);
}

void
group_wrote(struct master *m, const struct chan_wrote *wrote)
{
	tell_wrote(m, wrote->key, wrote);
	if (wrote->key.block_id != GROUP_WHOLE_MATCH)
		tell_wrote(m, (struct group_key){ wrote->key.match_id, GROUP_WHOLE_MATCH }, wrote);
}

void
group_crashed(struct master *m, struct child *c)
{
	struct group *g;

	board_add(m->slot, BOARD_loop_crashes, 1);
	group_detach(m, c);
	if ((g = group_get(m, &c->key)) == NULL)
		return;
	backoff_grow(&g->backoff, mono_ms() - c->born_ms, 1);
}

/* What a loop that died had not begun to answer goes to the next one. */
void
group_rescue(struct master *m, struct transfer *transfers)
{
	struct transfer *f;

	while ((f = transfers) != NULL) {
		DL_DELETE(transfers, f);
		group_handover(m, f->from, &f->handover, f->fd);
		free(f);
	}
}

void
group_lost(struct master *m, struct child *loop, uint64_t number)
{
	struct transfer *f;

	DL_SEARCH_SCALAR(loop->transfers, f, number, number);
	if (f == NULL)
		return;
	DL_DELETE(loop->transfers, f);
	refuse(m, f->from, &f->handover, f->fd, REFUSAL_OVERLOAD);
	free(f);
}

void
group_expire(struct master *m, int64_t now)
{
	struct group *g, *next;

	HASH_ITER(hh, m->groups, g, next)
		if (g->loop == NULL && now - BACKOFF_LAST_MS > g->backoff.until_ms)
			group_forget(m, g);
}
