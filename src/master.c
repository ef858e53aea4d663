/*
 * master - forks workers, and one loop per group on demand; supervises both,
 * routes hand-overs, enforces the limits, drains.
 *
 * Touches neither a client's byte nor the database, so neither can stop it.
 * A child that dies is replaced (worker) or made again for the next hand-over
 * (loop); who dies young waits, 1 s doubling to 60 s, reset after 10 s of life.
 * A child that does not go round its event loop for a while is killed.
 *
 * Of each connection that it passes on the master keeps a duplicate until the
 * loop says on the board that its answer has begun.  When the loop dies before
 * that, the connection goes to the next loop of the group, and nobody notices.
 *
 * A loop leaves in two steps, see loop.c: LEAVING is answered by LEAVE only when
 * nothing is on its way to it; from that moment the group has no loop.
 */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uthash.h>
#include <utlist.h>

#include "board.h"
#include "chan.h"
#include "fd.h"
#include "inherit.h"
#include "listener.h"
#include "log.h"
#include "mono.h"
#include "must.h"
#include "notify.h"
#include "opts.h"
#include "title.h"

#define BACKOFF_FIRST_MS	1000
#define BACKOFF_LAST_MS		60000
#define YOUNG_MS		10000	/* who dies before this age backs off */
#define HUNG_MS			15000	/* no turn of its event loop for that long */
#define UNREADY_MS		30000	/* no READY for that long */
#define SPARE_SLOTS		32	/* loops on their way out */
#define JOINED_SLOTS		1024	/* workers that may join */
#define LANDING_S		0.05	/* how often to look whether answers have begun */
#define LOOP_QUEUE		2048	/* hand-overs a loop may be behind */
#define WORKER_QUEUE		256
#define DRAIN_SLACK_MS		3000	/* after --drain-timeout: then children are killed */

struct backoff {
	unsigned	deaths;		/* young ones in a row */
	int64_t		pause_ms;	/* 0: none */
	int64_t		until_ms;	/* monotonic */
};

struct group_key {
	int64_t	match_id, block_id;
};

struct group {
	struct group_key	 key;
	struct child		*loop;		/* NULL: none at the moment */
	struct backoff		 backoff;
	UT_hash_handle		 hh;
};

/* A connection on its way to a loop. */
struct flight {
	struct flight		*prev, *next;
	uint64_t		 number;	/* of the ADOPT message */
	struct chan_handover	 handover;
	int			 fd;		/* our duplicate */
};

struct child {
	struct child		*prev, *next;
	struct master		*master;
	enum board_kind		 kind;
	pid_t			 pid;
	struct chan		 chan;
	struct board_slot	*slot;
	struct group_key	 key;		/* loops */
	uint64_t		 sent;		/* loops: ADOPT messages */
	struct flight		*flights;	/* loops: those whose answer has not begun */
	int64_t			 born_ms;
	bool			 joined;	/* not forked by us: no SIGCHLD, not replaced */
	bool			 ready;
	bool			 expected;	/* its end is: it was told to go */
	bool			 killed;
};

struct master {
	const struct opts	*opts;
	struct ev_loop		*ev;
	struct board		*board;
	struct board_slot	*slot;
	int			 listen_fd;
	int			 control_fd;	/* where workers join; -1: nowhere */
	int			 board_fd;	/* its memory, for them */
	pid_t			 pid;
	struct child		*children;
	struct group		*groups;
	struct backoff		 worker_backoff;
	bool			 draining;
	bool			 stopping;	/* workers were told to go */
	bool			 fork_failed;	/* logged */
	bool			 told_ready;
	ev_timer		 tick;
	ev_timer		 restart;	/* of missing workers */
	ev_timer		 deadline;	/* of the drain */
	ev_timer		 landing;	/* while connections are on their way */
	ev_io			 control;
	ev_signal		 sigchld, sigterm, sigusr1, sigint;
};

static void	start_workers(struct master *m);

/* One more child died.  Young ones beyond `forgiven` in a row make the next wait. */
static void
backoff_grow(struct backoff *b, int64_t lived_ms, unsigned forgiven)
{
	if (lived_ms >= YOUNG_MS)
		b->deaths = 0;
	else
		b->deaths++;
	if (b->deaths <= forgiven)
		b->pause_ms = 0;
	else if (b->pause_ms == 0)
		b->pause_ms = BACKOFF_FIRST_MS;
	else
		b->pause_ms = b->pause_ms * 2 > BACKOFF_LAST_MS ? BACKOFF_LAST_MS : b->pause_ms * 2;
	b->until_ms = mono_ms() + b->pause_ms;
}

/* --- children --------------------------------------------------------------- */

/* In the child: nothing of the master's stays but what `in` names, as descriptors 3 and 4. */
static void
leave_master(struct master *m, struct inherit *in)
{
	int channel, listener = -1, null;

	ev_signal_stop(m->ev, &m->sigchld);
	ev_signal_stop(m->ev, &m->sigterm);
	ev_signal_stop(m->ev, &m->sigusr1);
	ev_signal_stop(m->ev, &m->sigint);
	signal(SIGINT, SIG_IGN);	/* a terminal's Ctrl-C goes to all of us: the master decides */
	signal(SIGUSR1, SIG_IGN);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == -1 || getppid() != m->pid)
		_exit(1);
	/* the master's epoll set is shared: its watchers are not touched, its descriptors just closed */
	if ((channel = fcntl(in->channel_fd, F_DUPFD, 10)) == -1 ||
	    (in->listen_fd != -1 && (listener = fcntl(in->listen_fd, F_DUPFD, 10)) == -1) ||
	    (null = open("/dev/null", O_RDWR)) == -1)
		fatal("descriptors");
	if (dup2(null, 0) == -1 || dup2(channel, 3) == -1 || (listener != -1 && dup2(listener, 4) == -1))
		fatal("descriptors");
	closefrom(listener != -1 ? 5 : 4);
	(void)fd_cloexec(3);
	in->channel_fd = 3;
	if (listener != -1) {
		(void)fd_cloexec(4);
		in->listen_fd = 4;
	}
}

static const char *
child_name(const struct child *c, char *out, size_t size)
{
	if (c->kind == BOARD_LOOP)
		snprintf(out, size, "loop %lld/%lld", (long long)c->key.match_id, (long long)c->key.block_id);
	else
		snprintf(out, size, "worker");
	return (out);
}

static struct group *
group_find(struct master *m, const struct group_key *key)
{
	struct group *g;

	HASH_FIND(hh, m->groups, key, sizeof(*key), g);
	return (g);
}

/* The group has no loop any more.  Forgotten unless it has to back off. */
static void
group_detach(struct master *m, struct child *c)
{
	struct group *g = group_find(m, &c->key);

	if (g != NULL && g->loop == c) {
		g->loop = NULL;
		atomic_store_explicit(&c->slot->live, 0, memory_order_release);
	}
	if (g != NULL && g->loop == NULL && g->backoff.deaths == 0) {
		HASH_DEL(m->groups, g);
		free(g);
	}
}

static void	bury_joined(struct child *c);

static void
on_child_gone(struct chan *ch, const char *why)
{
	struct child	*c = ch->arg;
	char		 name[64];

	if (why != NULL)
		log_warnx("%s (pid %d): channel: %s", child_name(c, name, sizeof(name)), (int)c->pid, why);
	chan_fini(ch);
	if (c->kind == BOARD_LOOP)
		group_detach(c->master, c);
	if (c->joined)
		bury_joined(c);
	/* else its end is dealt with when SIGCHLD says how */
}

static void	on_message(struct chan *ch, enum chan_type type, const union chan_payload *p, int fd);

/* NULL: no slot, descriptor, memory or process to be had; errno says which. */
static struct child *
spawn(struct master *m, enum board_kind kind, const struct group_key *key)
{
	struct inherit	 in;
	struct child	*c;
	int		 fds[2] = { -1, -1 };

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->master = m;
	c->kind = kind;
	c->key = *key;
	c->born_ms = mono_ms();
	if ((c->slot = board_claim(m->board, kind, key->match_id, key->block_id)) == NULL) {
		errno = EAGAIN;
		goto fail;
	}
	c->slot->born_ms = c->born_ms;
	if (chan_pair(fds) == -1)
		goto fail;
	fflush(NULL);
	switch (c->pid = fork()) {
	case -1:
		goto fail;
	case 0:
		in = (struct inherit){ m->opts, m->board, c->slot, fds[1],
		    kind == BOARD_WORKER ? m->listen_fd : -1, key->match_id, key->block_id };
		leave_master(m, &in);
		exit(kind == BOARD_WORKER ? worker_main(&in) : loop_main(&in));
	}
	c->slot->pid = c->pid;
	fd_close(&fds[1]);
	chan_init(&c->chan, m->ev, fds[0], CHAN_MASTER, kind == BOARD_WORKER ? CHAN_WORKER : CHAN_LOOP,
	    kind == BOARD_WORKER ? WORKER_QUEUE : LOOP_QUEUE, on_message, on_child_gone, c);
	DL_APPEND(m->children, c);
	m->fork_failed = false;
	return (c);

fail:
	if (!m->fork_failed)
		log_warn("fork: no new %s for now", kind == BOARD_WORKER ? "worker" : "loop");
	m->fork_failed = true;
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	if (c->slot != NULL)
		board_release(m->board, c->slot);
	free(c);
	return (NULL);
}

static size_t
count_children(const struct master *m, enum board_kind kind, bool staying)
{
	struct child	*c;
	size_t		 n = 0;

	DL_FOREACH(m->children, c)
		n += c->kind == kind && !(staying && c->expected);
	return (n);
}

static size_t
count_forked_workers(const struct master *m)
{
	struct child	*c;
	size_t		 n = 0;

	DL_FOREACH(m->children, c)
		n += c->kind == BOARD_WORKER && !c->joined;
	return (n);
}

static void
start_workers(struct master *m)
{
	static const struct group_key none;
	int64_t	wait_ms = m->worker_backoff.until_ms - mono_ms();

	ev_timer_stop(m->ev, &m->restart);
	if (m->stopping)
		return;
	if (m->listen_fd == -1)
		return;			/* all workers are to join */
	while (count_forked_workers(m) < (size_t)m->opts->workers) {
		if (wait_ms > 0 || spawn(m, BOARD_WORKER, &none) == NULL) {
			ev_now_update(m->ev);
			ev_timer_set(&m->restart, wait_ms > 0 ? (double)wait_ms / 1000 : 1., 0.);
			ev_timer_start(m->ev, &m->restart);
			return;
		}
	}
}

/* --- hand-overs ------------------------------------------------------------- */

/* Give the connection back to a worker (the one it came from, if that is known), which answers it politely. */
static void
refuse(struct master *m, struct child *from, const struct chan_handover *h, int fd, enum chan_reason reason)
{
	struct chan_refusal	 r = { *h, reason };
	struct child		*c;

	if (from != NULL && chan_send(&from->chan, CHAN_REFUSE, &r, &fd) == 0)
		return;
	DL_FOREACH(m->children, c)
		if (c->kind == BOARD_WORKER && c != from && chan_send(&c->chan, CHAN_REFUSE, &r, &fd) == 0)
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

static void
let_go(struct child *c)
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

	if (count_children(m, BOARD_LOOP, true) < (size_t)m->opts->max_groups)
		return (true);
	DL_FOREACH(m->children, c)
		if (is_idle(c)) {
			let_go(c);
			return (c->expected);
		}
	return (false);
}

/* The loop of a group, forked if there is none.  NULL: *reason_r says why not. */
static struct child *
group_loop(struct master *m, const struct group_key *key, enum chan_reason *reason_r)
{
	struct group *g = group_find(m, key);

	if (g != NULL && g->loop != NULL)
		return (g->loop);
	if (g != NULL && g->backoff.pause_ms != 0 && mono_ms() < g->backoff.until_ms) {
		*reason_r = CHAN_R_CRASHING;
		return (NULL);
	}
	*reason_r = CHAN_R_GROUPS;
	if (!make_room(m))
		return (NULL);
	*reason_r = CHAN_R_OVERLOAD;
	if (g == NULL) {
		if ((g = calloc(1, sizeof(*g))) == NULL)
			return (NULL);
		g->key = *key;
		HASH_ADD(hh, m->groups, key, sizeof(g->key), g);
	}
	if ((g->loop = spawn(m, BOARD_LOOP, key)) == NULL) {
		if (g->backoff.deaths == 0) {
			HASH_DEL(m->groups, g);
			free(g);
		}
		return (NULL);
	}
	atomic_store_explicit(&g->loop->slot->live, 1, memory_order_release);
	log_debug("loop %lld/%lld: forked, pid %d", (long long)key->match_id, (long long)key->block_id,
	    (int)g->loop->pid);
	return (g->loop);
}

/* Give up our duplicates of what the loop has begun to answer. */
static void
land(struct child *loop)
{
	int64_t		 begun = board_get(loop->slot, BOARD_begun);
	struct flight	*f;

	while ((f = loop->flights) != NULL && (int64_t)f->number <= begun) {
		DL_DELETE(loop->flights, f);
		fd_close(&f->fd);
		free(f);
	}
}

static int
adopt(struct child *loop, const struct chan_handover *h, int *fd)
{
	struct flight	*f = malloc(sizeof(*f));
	int		 copy = fcntl(*fd, F_DUPFD_CLOEXEC, 0);

	land(loop);
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
	f->fd = copy;
	DL_APPEND(loop->flights, f);
	if (!ev_is_active(&loop->master->landing))
		ev_timer_again(loop->master->ev, &loop->master->landing);
	return (0);
}

static void
route_handover(struct master *m, struct child *from, const struct chan_handover *h, int fd)
{
	struct group_key	 key;
	struct child		*loop;
	enum chan_reason	 reason;

	memset(&key, 0, sizeof(key));
	key.match_id = h->match_id;
	key.block_id = h->block_id;
	if (m->draining)
		refuse(m, from, h, fd, CHAN_R_DRAINING);
	else if (h->kind == CHAN_STREAM && streams_now(m) >= m->opts->max_streams)
		refuse(m, from, h, fd, CHAN_R_STREAMS);
	else if ((loop = group_loop(m, &key, &reason)) == NULL)
		refuse(m, from, h, fd, reason);
	else if (adopt(loop, h, &fd) == 0)
		return;
	else if (errno == EPIPE || errno == ECONNRESET) {
		/* it has just died, and SIGCHLD is on its way: the group gets another one now */
		group_detach(m, loop);
		if ((loop = group_loop(m, &key, &reason)) == NULL || adopt(loop, h, &fd) == -1)
			refuse(m, from, h, fd, loop == NULL ? reason : CHAN_R_OVERLOAD);
	} else
		refuse(m, from, h, fd, CHAN_R_OVERLOAD);
}

/* Once, when the first worker serves (or nobody has to be waited for). */
static void
tell_ready(struct master *m)
{
	if (m->told_ready)
		return;
	m->told_ready = true;
	notify("READY=1");
}

static void
on_message(struct chan *ch, enum chan_type type, const union chan_payload *p, int fd)
{
	struct child	*c = ch->arg;
	struct master	*m = c->master;

	switch (type) {
	case CHAN_READY:
		c->ready = true;
		tell_ready(m);
		break;
	case CHAN_HANDOVER:
		if (fd == -1)
			log_warnx("hand-over lost: out of descriptors; raise RLIMIT_NOFILE");
		else
			route_handover(m, c, &p->handover, fd);
		break;
	case CHAN_LEAVING:
		if (p->leaving.adopted == c->sent && !c->expected)
			let_go(c);
		break;
	default:
		break;
	}
}

/* --- ends ------------------------------------------------------------------- */

static void
log_end(const struct child *c, int status)
{
	char name[64];

	child_name(c, name, sizeof(name));
	if (WIFSIGNALED(status))
		log_warnx("%s (pid %d): ended by signal %d (%s)%s", name, (int)c->pid, WTERMSIG(status),
		    strsignal(WTERMSIG(status)), c->killed ? ": it did not answer" : "");
	else if (WEXITSTATUS(status) != 0 || !c->expected)
		log_warnx("%s (pid %d): ended with status %d", name, (int)c->pid, WEXITSTATUS(status));
	else
		log_debug("%s (pid %d): left", name, (int)c->pid);
}

static void
loop_crashed(struct master *m, struct child *c)
{
	struct group *g;

	board_add(m->slot, BOARD_loop_crashes, 1);
	group_detach(m, c);
	if ((g = group_find(m, &c->key)) == NULL) {
		if ((g = calloc(1, sizeof(*g))) == NULL)
			return;
		g->key = c->key;
		HASH_ADD(hh, m->groups, key, sizeof(g->key), g);
	}
	backoff_grow(&g->backoff, mono_ms() - c->born_ms, 1);
}

static void
stop_workers(struct master *m)
{
	struct child *c;

	if (m->stopping)
		return;
	m->stopping = true;
	DL_FOREACH(m->children, c)
		if (c->kind == BOARD_WORKER) {
			c->expected = true;
			(void)chan_send(&c->chan, CHAN_STOP, NULL, NULL);
		}
}

static void
go_on_draining(struct master *m)
{
	if (!m->draining)
		return;
	if (count_children(m, BOARD_LOOP, false) == 0)
		stop_workers(m);
	if (m->children == NULL)
		ev_break(m->ev, EVBREAK_ALL);
}

/* What a loop that died had not begun to answer goes to the next one. */
static void
rescue(struct master *m, struct flight *flights)
{
	struct flight *f;

	while ((f = flights) != NULL) {
		DL_DELETE(flights, f);
		route_handover(m, NULL, &f->handover, f->fd);
		free(f);
	}
}

static void
bury(struct master *m, struct child *c, int status)
{
	struct flight *flights;

	land(c);
	flights = c->flights;
	log_end(c, status);
	chan_fini(&c->chan);
	DL_DELETE(m->children, c);
	if (c->kind == BOARD_LOOP) {
		if (!c->expected && !m->draining)
			loop_crashed(m, c);
		else
			group_detach(m, c);
	} else if (!c->expected) {
		board_add(m->slot, BOARD_worker_restarts, 1);
		backoff_grow(&m->worker_backoff, mono_ms() - c->born_ms, (unsigned)m->opts->workers);
	}
	board_release(m->board, c->slot);
	free(c);
	start_workers(m);
	rescue(m, flights);
	go_on_draining(m);
}

static void
bury_joined(struct child *c)
{
	struct master *m = c->master;

	log_debug("worker (pid %d): left", (int)c->pid);
	chan_fini(&c->chan);
	DL_DELETE(m->children, c);
	board_release(m->board, c->slot);
	free(c);
	go_on_draining(m);
}

static void
on_sigchld(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct master	*m = w->data;
	struct child	*c;
	pid_t		 pid;
	int		 status;

	(void)ev;
	(void)revents;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		DL_SEARCH_SCALAR(m->children, c, pid, pid);
		if (c != NULL)
			bury(m, c, status);
	}
}

static void
check_alive(struct child *c, int64_t now)
{
	int64_t	alive = board_get(c->slot, BOARD_alive_mono_ms);
	char	name[64];

	if (c->killed || now - (alive != 0 ? alive : c->born_ms) < (c->ready ? HUNG_MS : UNREADY_MS))
		return;
	log_warnx("%s (pid %d): does not answer: killed", child_name(c, name, sizeof(name)), (int)c->pid);
	c->killed = true;
	if (c->joined)
		bury_joined(c);		/* not ours to kill; it ends when its channel does */
	else
		kill(c->pid, SIGKILL);
}

static void
on_tick(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master	*m = w->data;
	struct child	*c, *tmp;
	struct group	*g, *next;
	int64_t		 now = mono_ms();

	(void)ev;
	(void)revents;
	board_set(m->slot, BOARD_alive_mono_ms, now);
	DL_FOREACH_SAFE(m->children, c, tmp)
		check_alive(c, now);
	/* groups that crashed and were not asked for again */
	HASH_ITER(hh, m->groups, g, next)
		if (g->loop == NULL && now > g->backoff.until_ms + BACKOFF_LAST_MS) {
			HASH_DEL(m->groups, g);
			free(g);
		}
}

static void
on_landing(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master	*m = w->data;
	struct child	*c;
	bool		 flying = false;

	(void)revents;
	DL_FOREACH(m->children, c)
		if (c->flights != NULL) {
			land(c);
			flying = flying || c->flights != NULL;
		}
	if (!flying)
		ev_timer_stop(ev, w);
}

static void
on_restart(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)revents;
	start_workers(w->data);
}

static void
on_deadline(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master	*m = w->data;
	struct child	*c, *next;

	(void)ev;
	(void)revents;
	log_warnx("drain: time is up: ending what is left");
	stop_workers(m);
	DL_FOREACH_SAFE(m->children, c, next)
		if (c->joined)
			bury_joined(c);
		else
			kill(c->pid, SIGKILL);
}

static void
drain(struct master *m, int64_t spread_ms)
{
	struct chan_drain	 d = { spread_ms };
	struct child		*c;

	log_info("draining: streams end over %.1f s", (double)spread_ms / 1000);
	notify("STOPPING=1");
	m->draining = true;
	m->board->draining = 1;
	DL_FOREACH(m->children, c) {
		if (c->kind == BOARD_LOOP) {
			c->expected = true;
			atomic_store_explicit(&c->slot->live, 0, memory_order_release);
		}
		(void)chan_send(&c->chan, CHAN_DRAIN, &d, NULL);
	}
	ev_now_update(m->ev);
	ev_timer_stop(m->ev, &m->deadline);
	ev_timer_set(&m->deadline, (double)(spread_ms + DRAIN_SLACK_MS) / 1000, 1.);
	ev_timer_start(m->ev, &m->deadline);
	go_on_draining(m);
}

static void
on_end_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct master *m = w->data;

	(void)ev;
	(void)revents;
	/* a second signal means: now */
	drain(m, w->signum == SIGINT || m->draining ? 0 : m->opts->drain_timeout_ms);
}

/* A worker joins: it gets a slot and the scoreboard, and is a child from now on but for its death. */
static void
on_join(struct ev_loop *ev, ev_io *w, int revents)
{
	struct master		*m = w->data;
	struct chan_welcome	 welcome;
	struct ucred		 peer = { 0, 0, 0 };
	socklen_t		 len = sizeof(peer);
	struct child		*c = NULL;
	int			 fd, memory = -1;

	(void)revents;
	if ((fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) == -1)
		return;
	if (m->draining || (memory = dup(m->board_fd)) == -1 || (c = calloc(1, sizeof(*c))) == NULL ||
	    (c->slot = board_claim(m->board, BOARD_WORKER, 0, 0)) == NULL) {
		log_warnx("join: refused: %s", m->draining ? "draining" : "no room for another worker");
		free(c);
		fd_close(&memory);
		fd_close(&fd);
		return;
	}
	(void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	c->master = m;
	c->kind = BOARD_WORKER;
	c->joined = true;
	c->pid = peer.pid;
	c->born_ms = mono_ms();
	c->slot->pid = c->pid;
	c->slot->born_ms = c->born_ms;
	chan_init(&c->chan, ev, fd, CHAN_MASTER, CHAN_WORKER, WORKER_QUEUE, on_message, on_child_gone, c);
	DL_APPEND(m->children, c);
	welcome.slot = (uint32_t)board_index(m->board, c->slot);
	if (chan_send(&c->chan, CHAN_WELCOME, &welcome, &memory) == -1) {
		fd_close(&memory);
		bury_joined(c);
	}
}

static void
watch_signal(struct master *m, ev_signal *w, int signum, void (*cb)(struct ev_loop *, ev_signal *, int))
{
	ev_signal_init(w, cb, signum);
	w->data = m;
	ev_signal_start(m->ev, w);
}

int
master_main(const struct opts *o, int listen_fd, int control_fd)
{
	struct master	 master = { .opts = o, .listen_fd = listen_fd, .control_fd = control_fd }, *m = &master;
	size_t		 slots;

	log_process("master");
	title_set("master");
	m->pid = getpid();
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if ((m->ev = ev_loop_new(EVFLAG_AUTO)) == NULL)
		fatalx("no event loop");
	slots = 1 + (size_t)o->workers + (size_t)o->max_groups + SPARE_SLOTS + (control_fd != -1 ? JOINED_SLOTS : 0);
	if ((m->board = board_new(slots, &m->board_fd)) == NULL)
		fatal("scoreboard");
	m->slot = board_claim(m->board, BOARD_MASTER, 0, 0);
	m->slot->pid = m->pid;
	watch_signal(m, &m->sigchld, SIGCHLD, on_sigchld);
	watch_signal(m, &m->sigterm, SIGTERM, on_end_signal);
	watch_signal(m, &m->sigusr1, SIGUSR1, on_end_signal);
	watch_signal(m, &m->sigint, SIGINT, on_end_signal);
	ev_timer_init(&m->tick, on_tick, 0., 1.);
	ev_timer_init(&m->restart, on_restart, 0., 0.);
	ev_timer_init(&m->deadline, on_deadline, 0., 0.);
	ev_timer_init(&m->landing, on_landing, 0., LANDING_S);
	m->tick.data = m->restart.data = m->deadline.data = m->landing.data = m;
	ev_timer_start(m->ev, &m->tick);
	log_info("serving %s with %ld workers; at most %ld groups and %ld streams",
	    o->listen != NULL ? o->listen : listen_fd != -1 ? "on descriptor 0" : "workers that join",
	    listen_fd != -1 ? o->workers : 0, o->max_groups, o->max_streams);
	ev_io_init(&m->control, on_join, control_fd, EV_READ);
	m->control.data = m;
	if (control_fd != -1)
		ev_io_start(m->ev, &m->control);
	start_workers(m);
	if (listen_fd == -1)
		tell_ready(m);

	ev_run(m->ev, 0);

	listener_close(&m->listen_fd, o->listen);
	listener_close(&m->control_fd, o->control);
	log_info("ended");
	ev_loop_destroy(m->ev);
	return (0);
}
