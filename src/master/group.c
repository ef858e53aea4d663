/* SPDX-License-Identifier: ISC */
/*
 * The hand-over of a connection: worker, master, loop.  The master keeps a
 * duplicate of each until the loop says on the board that its answer has begun
 * (a transfer); what a dying loop had not begun goes to the next one.
 *
 * Room: a loop that is idle makes it for another group.  A block that finds none
 * is shown by the loop of its match.  When there is no room for that either, who
 * has many groups for himself alone gives way to who has fewer; so with streams.
 * Runs in: master.  Never blocks.  A connection is ours from group_handover until
 * a loop or a worker has it, or it is closed; its duplicate until its answer began.
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

void
group_let_go(struct child *c)
{
	if (chan_send(&c->chan, CHAN_LEAVE, NULL, NULL) == -1)
		return;
	c->expected = true;
	group_detach(c->master, c);
}

/* --- room --------------------------------------------------------------------- */

/* Loops of blocks and loops of matches have --max-groups each: so one of a match can always take blocks that find no room. */
static bool
is_of_kind(const struct child *c, const struct group_key *key)
{
	return (c->kind == BOARD_LOOP && !c->expected &&
	    (c->key.block_id == GROUP_WHOLE_MATCH) == (key->block_id == GROUP_WHOLE_MATCH));
}

/* One that lingers without viewers makes room. */
static bool
has_room(struct master *m, const struct group_key *key)
{
	struct child	*c, *idle = NULL;
	size_t		 n = 0;

	DL_FOREACH(m->children, c)
		if (is_of_kind(c, key)) {
			n++;
			if (c->ready && client_connections(&c->attendance) == 0)
				idle = c;
		}
	if (n < (size_t)m->opts->max_groups)
		return (true);
	if (idle != NULL)
		group_let_go(idle);
	return (idle != NULL && idle->expected);
}

/* Only the database knows whether a block exists, and who joined need not have asked it: half of all is his at most. */
static bool
has_share(const struct master *m, uint64_t from)
{
	const struct child	*c;
	size_t			 n = 0;
	bool			 joined = false;

	DL_FOREACH(m->children, c) {
		joined = joined || (c->id == from && c->joined);
		n += c->kind == BOARD_LOOP && !c->expected && c->made_by == from;
	}
	return (!joined || n < ((size_t)m->opts->max_groups + 1) / 2);
}

static size_t
groups_alone(const struct master *m, const char *name)
{
	const struct client *c = client_find(&m->clients, name);

	return (c != NULL && name[0] != '\0' ? c->alone : 0);
}

/*
 * When all is taken, a loop whose only client has more loops for itself than the
 * one who comes would have gives way: nobody keeps others out by taking all.
 */
static bool
give_way(struct master *m, const struct chan_handover *h)
{
	const struct chan_drain	 at_once = { 0 };
	const struct client	*only;
	struct child		*c, *greedy = NULL;
	size_t			 most = groups_alone(m, h->client) + 1;
	char			 name[GROUP_NAME_BYTES];

	DL_FOREACH(m->children, c)
		if (is_of_kind(c, &h->key) && (only = client_only(&c->attendance)) != NULL && only->name[0] != '\0' &&
		    only->alone > most) {
			greedy = c;
			most = only->alone;
		}
	if (greedy == NULL || chan_send(&greedy->chan, CHAN_DRAIN, &at_once, NULL) == -1)
		return (false);
	log_debug("loop %s: gives way to others: its only client has %zu", group_name(name, &greedy->key), most);
	greedy->expected = true;
	group_detach(m, greedy);
	board_add(m->slot, BOARD_gave_way, 1);
	return (true);
}

/* --- which loop ---------------------------------------------------------------- */

static struct child *
group_fork(struct master *m, uint64_t from, const struct group_key *key)
{
	struct group	*g = group_get(m, key);
	char		 name[GROUP_NAME_BYTES];

	if (g == NULL)
		return (NULL);
	if ((g->loop = child_spawn(m, BOARD_LOOP, key)) == NULL) {
		if (g->backoff.deaths == 0)
			group_forget(m, g);
		return (NULL);
	}
	g->loop->made_by = from;
	atomic_store_explicit(&g->loop->slot->live, 1, memory_order_release);
	log_debug("loop %s: forked, pid %d", group_name(name, key), (int)g->loop->pid);
	return (g->loop);
}

/* The loop of h's group, forked if there is none.  NULL: *reason_r says why not. */
static struct child *
group_loop(struct master *m, uint64_t from, const struct chan_handover *h, enum refusal_reason *reason_r)
{
	struct group	*g = group_find(m, &h->key);
	struct child	*loop = NULL;
	size_t		 most = (size_t)m->opts->max_groups_per_client;

	if (g != NULL && g->loop != NULL)
		return (g->loop);
	if (g != NULL && g->backoff.pause_ms != 0 && mono_ms() < g->backoff.until_ms)
		*reason_r = REFUSAL_CRASHING;
	else if (most != 0 && groups_alone(m, h->client) >= most)
		*reason_r = REFUSAL_CLIENT;
	else if (!has_share(m, from) || !has_room(m, &h->key))
		*reason_r = REFUSAL_GROUPS;
	else if ((loop = group_fork(m, from, &h->key)) == NULL)
		*reason_r = REFUSAL_OVERLOAD;
	return (loop);
}

/*
 * Where h goes.  A block for which there is no room is shown by the loop of its
 * match, in the same bytes; with the viewer's next connection it is asked again.
 */
static struct child *
find_loop(struct master *m, uint64_t from, struct chan_handover *h, enum refusal_reason *reason_r)
{
	const struct group_key	 own = h->key;
	struct child		*loop;

	if ((loop = group_loop(m, from, h, reason_r)) != NULL || *reason_r != REFUSAL_GROUPS)
		return (loop);
	if (own.block_id != GROUP_WHOLE_MATCH) {
		h->key.block_id = GROUP_WHOLE_MATCH;
		if ((loop = group_loop(m, from, h, reason_r)) != NULL) {
			board_add(m->slot, BOARD_without_own_loop, 1);
			return (loop);
		}
		h->key = own;
		*reason_r = REFUSAL_GROUPS;
	}
	return (has_share(m, from) && give_way(m, h) ? group_loop(m, from, h, reason_r) : NULL);
}

/* --- on the way to it ---------------------------------------------------------- */

/*
 * Give up our duplicates of what the loop has begun to answer.  It begins in the
 * order of numbers, but one it could not take is no answer that has begun: while the
 * message that says so is on its way, nothing is given up.
 */
bool
group_settle(struct child *loop)
{
	int64_t		 begun = board_get(loop->slot, BOARD_begun);
	struct transfer	*f;

	if (board_get(loop->slot, BOARD_lost) > loop->lost)
		return (loop->transfers != NULL);
	while ((f = loop->transfers) != NULL && (int64_t)f->number <= begun) {
		DL_DELETE(loop->transfers, f);
		fd_close(&f->fd);
		free(f);
	}
	return (loop->transfers != NULL);
}

static void
keep_copy(struct child *loop, uint64_t from, const struct chan_handover *h, int *fd)
{
	struct transfer *f = malloc(sizeof(*f));

	if (f == NULL) {
		fd_close(fd);	/* without a net, then */
		return;
	}
	f->number = loop->sent;
	f->handover = *h;
	f->from = from;
	f->fd = fd_take(fd);
	DL_APPEND(loop->transfers, f);
	if (!ev_is_active(&loop->master->transfer_look))
		ev_timer_again(loop->master->ev, &loop->master->transfer_look);
}

static int
adopt(struct child *loop, uint64_t from, const struct chan_handover *h, int *fd)
{
	struct master	*m = loop->master;

	(void)group_settle(loop);
	if (client_come(&m->clients, &loop->attendance, h->client, loop->sent + 1, h->kind == CHAN_STREAM) == -1)
		return (-1);
	if (chan_send_shared(&loop->chan, CHAN_ADOPT, h, *fd) == -1) {
		client_go(&m->clients, &loop->attendance, loop->sent + 1);
		return (-1);
	}
	loop->sent++;
	keep_copy(loop, from, h, fd);
	return (0);
}

/*
 * When there are --max-streams, the newest stream of who has most gives way, if that
 * leaves it more than the one who comes will have.  0: there is room for one more.
 */
static int
stream_gives_way(struct master *m, size_t streams)
{
	const struct client	*greedy = client_greediest(&m->clients, streams + 1);
	const struct attendance	*at;
	struct chan_give_way	 message;
	struct child		*c;

	if (greedy == NULL)
		return (-1);
	at = client_newest(greedy, &message.number);
	DL_FOREACH(m->children, c)
		if (&c->attendance == at)
			break;
	if (c == NULL || chan_send(&c->chan, CHAN_GIVE_WAY, &message, NULL) == -1)
		return (-1);
	log_debug("streams: one of %zu gives way to another client", greedy->streams);
	board_add(m->slot, BOARD_streams_gave_way, 1);
	client_go(&m->clients, &c->attendance, message.number);
	return (0);
}

/* What a client or all have as streams already.  REFUSAL__MAX: there is room for one more. */
static enum refusal_reason
stream_limit(struct master *m, const struct chan_handover *h)
{
	const struct client	*c = client_find(&m->clients, h->client);
	size_t			 most = (size_t)m->opts->max_streams_per_client, streams = c != NULL ? c->streams : 0;
	bool			 known = h->client[0] != '\0';

	if (h->kind != CHAN_STREAM)
		return (REFUSAL__MAX);
	if (most != 0 && known && streams >= most)
		return (REFUSAL_CLIENT);
	if (m->clients.streams >= (size_t)m->opts->max_streams && (!known || stream_gives_way(m, streams) == -1))
		return (REFUSAL_STREAMS);
	return (REFUSAL__MAX);
}

void
group_handover(struct master *m, uint64_t from, struct chan_handover h, int fd)
{
	enum refusal_reason	 reason = m->draining ? REFUSAL_DRAINING : stream_limit(m, &h);
	struct child		*loop;
	int			 tries;

	if (h.view.kind == VIEW_BLOCK)
		h.key.block_id = h.view.blocks[0];	/* also of one that its match's loop had shown */
	for (tries = 0; reason == REFUSAL__MAX; tries++) {
		if ((loop = find_loop(m, from, &h, &reason)) == NULL)
			break;
		if (adopt(loop, from, &h, &fd) == 0)
			return;
		if (tries > 0 || (errno != EPIPE && errno != ECONNRESET))
			reason = REFUSAL_OVERLOAD;
		else {		/* it has just died, and SIGCHLD is on its way: the group gets another one now */
			group_detach(m, loop);
			reason = REFUSAL__MAX;	/* a block without a loop of its own had one */
		}
	}
	refuse(m, from, &h, fd, reason);
}

/* One that has ended needs no net any more, begun or not: our copy would keep the connection open. */
static void
drop_copy(struct child *loop, uint64_t number)
{
	struct transfer *f;

	DL_SEARCH_SCALAR(loop->transfers, f, number, number);
	if (f == NULL)
		return;
	DL_DELETE(loop->transfers, f);
	fd_close(&f->fd);
	free(f);
}

void
group_gone(struct child *loop, const struct chan_gone *gone)
{
	uint32_t i;

	for (i = 0; i < gone->n; i++) {
		client_go(&loop->master->clients, &loop->attendance, gone->numbers[i]);
		drop_copy(loop, gone->numbers[i]);
	}
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
		group_handover(m, f->from, f->handover, f->fd);
		free(f);
	}
}

void
group_lost(struct master *m, struct child *loop, uint64_t number)
{
	struct transfer *f;

	loop->lost++;
	client_go(&m->clients, &loop->attendance, number);
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
