/* SPDX-License-Identifier: ISC */
/*
 * The control socket, where workers join that somebody else has started.
 *
 * A worker that joined is a peer and not a friend: it runs with another program's
 * rights, and what it says is checked as a browser's word would be.
 *	Who may join: our own user, root, and --control-user.
 *	What it gets: the scoreboard read-only, and a slot in memory of its own, which
 *	  is shown and decides nothing; connections that it handed over itself and
 *	  that are refused; no other (group.c).
 *	What it may say: what chan.c lets through.
 *	How it ends: with its channel.  There is no SIGCHLD, and nobody to kill.
 * Runs in: master.  Never blocks.
 */
#include <sys/socket.h>

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>

#include "base/cred.h"
#include "base/evloop.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "master/master.h"

#define PAUSE_S		1.	/* without a descriptor for who joins */

/* NULL: no memory, slot or descriptor. */
static struct child *
new_joined(struct master *m, int memory_r[2])
{
	struct child *c = calloc(1, sizeof(*c));

	memory_r[0] = memory_r[1] = -1;
	if (c == NULL || (memory_r[0] = fd_dup(m->board_fd)) == -1 ||
	    (c->own_slot = board_slot_new(&memory_r[1])) == NULL ||
	    (c->slot = board_claim(m->board, BOARD_WORKER, 0, 0)) == NULL) {
		fd_close(&memory_r[0]);
		fd_close(&memory_r[1]);
		if (c != NULL)
			board_slot_free(&c->own_slot);
		free(c);
		return (NULL);
	}
	c->master = m;
	c->id = ++m->last_id;
	c->kind = BOARD_WORKER;
	c->joined = true;
	c->born_ms = mono_ms();
	return (c);
}

static void
welcome(struct master *m, int fd)
{
	static struct log_seldom turned_away, full;
	struct child	*c;
	pid_t		 pid;
	uid_t		 uid;
	int		 memory[2];

	if (cred_of(fd, &pid, &uid) == -1 || !cred_allowed(&m->peers, uid)) {
		log_warnx_seldom(&turned_away, "join: refused: user %u may not (--control-user)", (unsigned)uid);
		fd_close(&fd);
		return;
	}
	if (m->draining || (c = new_joined(m, memory)) == NULL) {
		log_warnx_seldom(&full, "join: refused: %s", m->draining ? "draining" : "no room for another worker");
		fd_close(&fd);
		return;
	}
	c->pid = pid;
	c->slot->pid = pid;
	c->slot->born_ms = c->born_ms;
	chan_init(&c->chan, m->ev, fd, CHAN_MASTER, CHAN_WORKER, WORKER_QUEUE, m->on_message, m->on_child_gone, c);
	DL_APPEND(m->children, c);
	if (chan_send(&c->chan, CHAN_WELCOME, NULL, &memory[0]) == -1 ||
	    chan_send(&c->chan, CHAN_SLOT, NULL, &memory[1]) == -1) {
		fd_close(&memory[0]);
		fd_close(&memory[1]);
		control_bury(c);
	}
}

static void
on_join(struct ev_loop *ev, ev_io *w, int revents)
{
	static struct log_seldom starved;
	struct master		*m = w->data;
	int			 fd;

	errno = ENOMEM;
	if (!evloop_dropped(revents) && (fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) != -1)
		welcome(m, fd);
	else if (errno == EMFILE || errno == ENFILE || fd_without_memory(errno)) {
		log_warnx_seldom(&starved, "join: pausing; raise the limit of open files (RLIMIT_NOFILE)");
		ev_io_stop(ev, w);
		ev_now_update(ev);
		ev_timer_again(ev, &m->control_pause);
	}
}

/* A descriptor may be free again. */
static void
on_pause_over(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct master *m = w->data;

	(void)revents;
	ev_timer_stop(ev, w);
	ev_io_start(ev, &m->control);
}

void
control_start(struct master *m)
{
	char	error[256];

	if (cred_list(&m->peers, m->opts->control_user, error, sizeof(error)) == -1)
		fatalx("--control-user: %s", error);
	ev_timer_init(&m->control_pause, on_pause_over, 0., PAUSE_S);
	ev_io_init(&m->control, on_join, m->control_fd, EV_READ);
	m->control_pause.data = m->control.data = m;
	ev_io_start(m->ev, &m->control);
}

void
control_show(struct master *m)
{
	struct child *c;

	DL_FOREACH(m->children, c)
		if (c->joined)
			board_slot_show(c->slot, c->own_slot);
}

void
control_bury(struct child *c)
{
	struct master *m = c->master;

	log_debug("worker (pid %d): left", (int)c->pid);
	chan_fini(&c->chan);
	DL_DELETE(m->children, c);
	board_slot_show(c->slot, c->own_slot);
	board_slot_free(&c->own_slot);
	board_release(m->board, c->slot);
	free(c);
	master_go_on_draining(m);
}
