/* SPDX-License-Identifier: ISC */
/*
 * master - forks workers, and one loop per group on demand; supervises both,
 * routes hand-overs, enforces the limits, drains.  Its rooms: master.h.
 *
 * Touches neither a client's byte nor the database, so neither can stop it.
 * A child that dies is replaced (worker) or made again for the next hand-over
 * (loop); who dies young waits, 1 s doubling to 60 s, reset after 10 s of life.
 * A child that does not go round its event loop for a while is killed.
 *
 * A loop leaves in two steps, see loop.c: LEAVING is answered by LEAVE only when
 * nothing is on its way to it; from that moment the group has no loop.
 */
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "base/confine.h"
#include "base/evloop.h"
#include "base/fd.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/must.h"
#include "base/opts.h"
#include "base/title.h"
#include "master/master.h"
#include "master/notify.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "shared/inherit.h"

#define SPARE_SLOTS		32	/* loops on their way out */
#define SUCCESSOR_LOOK_S	0.05	/* while draining */
#define TRANSFER_LOOK_S		0.05	/* how often to look whether answers have begun */
#define GRACE_S			0.1	/* from accepting nothing to draining, on a given socket */
#define DEAF_MS			5000	/* after the start a signal of our own has arrived */
#define UNUSED_MS		5000	/* after --linger: a master that a worker started ends without children */
#define DRAIN_SLACK_MS		3000	/* after --drain-timeout: then children are killed */

static void	start_workers(struct master *m);
static void	drain(struct master *m, int64_t spread_ms);

/* --- workers ---------------------------------------------------------------- */

static void
on_child_gone(struct chan *ch, const char *why)
{
	static struct log_seldom broken;	/* who joined may do it again and again */
	struct child		*c = ch->arg;
	char			 name[64];

	if (why != NULL)
		log_warnx_seldom(&broken, "%s (pid %d): channel: %s", child_name(c, name, sizeof(name)), (int)c->pid, why);
	chan_fini(ch);
	if (c->kind == BOARD_LOOP)
		group_detach(c->master, c);
	if (c->joined)
		control_bury(c);
	/* else its end is dealt with when SIGCHLD says how */
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
		if (wait_ms > 0 || child_spawn(m, BOARD_WORKER, &none) == NULL) {
			ev_now_update(m->ev);
			ev_timer_set(&m->restart, wait_ms > 0 ? (double)wait_ms / 1000 : 1., 0.);
			ev_timer_start(m->ev, &m->restart);
			return;
		}
	}
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

/* The clock of one that joined may be any. */
static void
handed_over(struct child *from, struct chan_handover h, int fd)
{
	int64_t now = mono_ms();

	if (h.accepted_ms > now)
		h.accepted_ms = now;
	group_handover(from->master, from->id, h, fd);
}

static void
on_message(struct chan *ch, enum chan_type type, const union chan_payload *p, int fd)
{
	static struct log_seldom lost_ones;
	struct child		*c = ch->arg;
	struct master		*m = c->master;

	switch (type) {
	case CHAN_READY:
		c->ready = true;
		tell_ready(m);
		break;
	case CHAN_HANDOVER:
		if (fd == -1)
			log_warnx_seldom(&lost_ones, "hand-over lost: out of descriptors; raise RLIMIT_NOFILE");
		else
			handed_over(c, p->handover, fd);
		break;
	case CHAN_GONE:
		group_gone(c, &p->gone);
		break;
	case CHAN_LOST:
		group_lost(m, c, p->lost.number);
		break;
	case CHAN_LEAVING:
		if (p->leaving.adopted == c->sent && !c->expected)
			group_let_go(c);
		break;
	case CHAN_WROTE:
		group_wrote(m, &p->wrote);
		break;
	default:
		break;
	}
}

/* --- ends ------------------------------------------------------------------- */

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

void
master_go_on_draining(struct master *m)
{
	if (!m->draining)
		return;
	if (child_count(m, BOARD_LOOP) == 0)
		stop_workers(m);
	if (m->children == NULL)
		ev_break(m->ev, EVBREAK_ALL);
}

static void
bury(struct master *m, struct child *c, int status)
{
	struct transfer *transfers;

	chan_read_all(&c->chan);
	c->lost = board_get(c->slot, BOARD_lost);	/* what it could not say any more is begun, if it is below */
	(void)group_settle(c);
	client_all_go(&m->clients, &c->attendance);
	transfers = c->transfers;
	child_log_end(c, status);
	chan_fini(&c->chan);
	DL_DELETE(m->children, c);
	if (c->kind == BOARD_LOOP) {
		if (!c->expected && !m->draining)
			group_crashed(m, c);
		else
			group_detach(m, c);
	} else if (!c->expected) {
		board_add(m->slot, BOARD_worker_restarts, 1);
		backoff_grow(&m->worker_backoff, mono_ms() - c->born_ms, (unsigned)m->opts->workers);
	}
	board_release(m->board, c->slot);
	free(c);
	start_workers(m);
	group_rescue(m, transfers);
	master_go_on_draining(m);
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
	m->hears_signals = true;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		DL_FOREACH(m->children, c)
			if (c->pid == pid && !c->joined)
				break;
		if (c != NULL)
			bury(m, c, status);
	}
}

static void
end_hung(struct child *c)
{
	char name[64];

	log_warnx("%s (pid %d): does not answer: killed", child_name(c, name, sizeof(name)), (int)c->pid);
	c->killed = true;
	if (c->joined)
		control_bury(c);		/* not ours to kill; it ends when its channel does */
	else
		kill(c->pid, SIGKILL);
}

/* Nobody supervises a master that a worker started (--start): when nobody joins any more, it goes. */
static void
end_if_unused(struct master *m, int64_t now)
{
	if (m->children != NULL)
		m->used_ms = now;
	else if (m->opts->start && !m->draining && now - m->used_ms >= m->opts->linger_ms + UNUSED_MS) {
		log_info("no worker is left, and none came for %lld s", (long long)(now - m->used_ms) / 1000);
		drain(m, 0);
	}
}

static void
on_async(struct ev_loop *ev, ev_async *w, int revents)
{
	(void)ev;
	(void)w;
	(void)revents;		/* nobody sends it */
}

static void
on_tick(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master	*m = w->data;
	struct child	*c, *tmp;
	int64_t		 now = mono_ms();

	(void)ev;
	(void)revents;
	if (!m->hears_signals && now - m->born_ms > DEAF_MS)
		fatalx("event loop: signals don't arrive");
	/* when the kernel does not take libev's pipe for signals any more, libev tries again only with such a start */
	ev_async_stop(m->ev, &m->keep_pipe);
	ev_async_start(m->ev, &m->keep_pipe);
	board_set(m->slot, BOARD_alive_mono, now);
	board_set(m->slot, BOARD_log_lines_lost, log_lost());
	control_show(m);
	DL_FOREACH_SAFE(m->children, c, tmp)
		if (child_hangs(c, now))
			end_hung(c);
	group_expire(m, now);
	notify_alive();
	end_if_unused(m, now);
}

static void
on_transfer_look(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master	*m = w->data;
	struct child	*c;
	bool		 in_transfer = false;

	(void)revents;
	DL_FOREACH(m->children, c)
		in_transfer = group_settle(c) || in_transfer;
	if (!in_transfer)
		ev_timer_stop(ev, w);
}

/* While draining: does somebody serve our path already? */
static void
on_successor_look(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master	*m = w->data;
	struct child	*c;

	(void)revents;
	if (!listener_succeeded(m->opts->listen))
		return;
	ev_timer_stop(ev, w);
	log_info("a successor serves %s: viewers may come back at once", m->opts->listen);
	DL_FOREACH(m->children, c)
		if (c->kind == BOARD_LOOP)
			(void)chan_send(&c->chan, CHAN_SUCCEEDED, NULL, NULL);
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
			control_bury(c);
		else
			kill(c->pid, SIGKILL);
}

static void
drain(struct master *m, int64_t spread_ms)
{
	struct chan_drain	 d = { spread_ms };
	struct child		*c;

	ev_timer_stop(m->ev, &m->grace);
	log_info("draining: streams end over %.1f s", (double)spread_ms / 1000);
	notify("STOPPING=1");
	m->draining = true;
	m->board->draining = 1;
	listener_leave(m->opts->listen);
	listener_leave(m->opts->control);
	if (m->opts->listen != NULL)
		ev_timer_again(m->ev, &m->successor_look);
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
	master_go_on_draining(m);
}

static void
on_grace_over(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master *m = w->data;

	(void)ev;
	(void)revents;
	drain(m, m->opts->drain_timeout_ms);
}

/* On a given socket: workers accept no more; a moment later, when what they had accepted is through, drain. */
static void
stop_accepting(struct master *m)
{
	struct chan_drain	 d = { m->opts->drain_timeout_ms };
	struct child		*c;

	DL_FOREACH(m->children, c)
		if (c->kind == BOARD_WORKER)
			(void)chan_send(&c->chan, CHAN_DRAIN, &d, NULL);
	ev_now_update(m->ev);
	ev_timer_set(&m->grace, GRACE_S, 0.);
	ev_timer_start(m->ev, &m->grace);
}

static void
on_end_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct master *m = w->data;

	(void)ev;
	(void)revents;
	/* a second signal means: now */
	if (w->signum == SIGINT || m->draining || ev_is_active(&m->grace))
		drain(m, 0);
	else if (m->opts->listen == NULL && m->listen_fd != -1)
		stop_accepting(m);
	else
		drain(m, m->opts->drain_timeout_ms);
}

int
master_main(const struct opts *o, int listen_fd, int control_fd)
{
	struct master	 master = { .opts = o, .listen_fd = listen_fd, .control_fd = control_fd,
	    .on_message = on_message, .on_child_gone = on_child_gone }, *m = &master;
	size_t		 slots;

	log_process("master");
	title_set("master");
	m->pid = getpid();
	m->born_ms = m->used_ms = mono_ms();
	m->ev = evloop_new();
	slots = 1 + (size_t)o->workers + 2 * (size_t)o->max_groups + SPARE_SLOTS + (control_fd != -1 ? CONTROL_SLOTS : 0);
	m->board_fd = -1;
	if ((m->board = board_new(slots, control_fd != -1 ? &m->board_fd : NULL)) == NULL)
		fatal("scoreboard");
	if (control_fd != -1 && m->board_fd == -1)
		fatalx("--control: this kernel can't share memory read-only, Linux 5.1 can");
	m->slot = board_claim(m->board, BOARD_MASTER, 0, 0);
	m->slot->pid = m->pid;
	log_watch(board_say, m->slot);
	evloop_watch_signal(m->ev, &m->sigchld, SIGCHLD, on_sigchld, m);
	evloop_watch_signal(m->ev, &m->sigterm, SIGTERM, on_end_signal, m);
	evloop_watch_signal(m->ev, &m->sigusr1, SIGUSR1, on_end_signal, m);
	evloop_watch_signal(m->ev, &m->sigint, SIGINT, on_end_signal, m);
	ev_async_init(&m->keep_pipe, on_async);
	ev_async_start(m->ev, &m->keep_pipe);
	ev_timer_init(&m->tick, on_tick, 0., 1.);
	ev_timer_init(&m->restart, on_restart, 0., 0.);
	ev_timer_init(&m->deadline, on_deadline, 0., 0.);
	ev_timer_init(&m->grace, on_grace_over, 0., 0.);
	m->grace.data = m;
	ev_timer_init(&m->successor_look, on_successor_look, 0., SUCCESSOR_LOOK_S);
	m->successor_look.data = m;
	ev_timer_init(&m->transfer_look, on_transfer_look, 0., TRANSFER_LOOK_S);
	m->tick.data = m->restart.data = m->deadline.data = m->transfer_look.data = m;
	ev_timer_start(m->ev, &m->tick);
	raise(SIGCHLD);		/* libev tells nobody if the kernel does not take its pipe for signals: is there one? */
	log_info("serving %s with %ld workers; at most %ld groups and %ld streams",
	    o->listen != NULL ? o->listen : listen_fd != -1 ? "on descriptor 0" : "workers that join",
	    listen_fd != -1 ? o->workers : 0, o->max_groups, o->max_streams);
	if (geteuid() == 0)
		log_info("running as root, of whose rights nothing here has any use: run it as a user of its own, "
		    "as etc/seatcast.service and etc/rc.seatcast do");
	if (control_fd != -1)
		control_start(m);
	if (o->listen != NULL && strchr(o->listen, '/') != NULL)
		confine_keep_beside(o->listen);
	if (o->control != NULL)
		confine_keep_beside(o->control);
	confine(CONFINE_MASTER);
	start_workers(m);
	if (listen_fd == -1)
		tell_ready(m);

	do		/* libev counts the pipe that it lost as one watcher less: the end is when we say so */
		ev_run(m->ev, 0);
	while (!m->draining || m->children != NULL);

	listener_close(&m->listen_fd, o->listen);
	listener_close(&m->control_fd, o->control);
	group_expire(m, INT64_MAX);
	log_info("ended");
	ev_loop_destroy(m->ev);
	return (0);
}
