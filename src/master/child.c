/* SPDX-License-Identifier: ISC */
/*
 * One child: its birth, its name, how it ended, whether it hangs, how long the
 * next one waits.
 *
 * A child is forked, not executed anew: leave_master is where everything that is
 * the master's is left behind, and what stays is in struct inherit.
 * Runs in: master, and in the child until its own main begins.  Never blocks.  The
 * child's end of the channel is the child's; the slot is the master's, which
 * releases it when the child is buried.
 */
#include <sys/prctl.h>
#include <sys/wait.h>

#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "master/master.h"
#include "shared/inherit.h"

#define BACKOFF_FIRST_MS	1000
#define YOUNG_MS		10000	/* who dies before this age backs off */
#define HUNG_MS			15000	/* no turn of its event loop for that long */
#define UNREADY_MS		30000	/* no READY for that long */
#define LOOP_QUEUE		2048	/* hand-overs a loop may be behind */

/* One more child died.  Young ones beyond `forgiven` in a row make the next wait. */
void
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
	log_forked();
	(void)fd_cloexec(3);
	in->channel_fd = 3;
	if (listener != -1) {
		(void)fd_cloexec(4);
		in->listen_fd = 4;
	}
}

const char *
child_name(const struct child *c, char *out, size_t size)
{
	char	 name[GROUP_NAME_BYTES];

	if (c->kind == BOARD_LOOP)
		snprintf(out, size, "loop %s", group_name(name, &c->key));
	else
		snprintf(out, size, "worker");
	return (out);
}

/* NULL: no slot, descriptor, memory or process to be had; errno says which. */
struct child *
child_spawn(struct master *m, enum board_kind kind, const struct group_key *key)
{
	struct inherit	 in;
	struct child	*c;
	int		 fds[2] = { -1, -1 };

	if ((c = calloc(1, sizeof(*c))) == NULL)
		return (NULL);
	c->master = m;
	c->id = ++m->last_id;
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
		in = (struct inherit){ .opts = m->opts, .board = m->board, .slot = c->slot, .channel_fd = fds[1],
		    .listen_fd = kind == BOARD_WORKER ? m->listen_fd : -1, .key = *key,
		    .draining = m->draining || ev_is_active(&m->grace) };
		log_watch(board_say, c->slot);
		leave_master(m, &in);
		free(c);		/* the master's: nobody has it here */
		exit(kind == BOARD_WORKER ? worker_main(&in) : loop_main(&in));
	}
	c->slot->pid = c->pid;
	fd_close(&fds[1]);
	chan_init(&c->chan, m->ev, fds[0], CHAN_MASTER, kind == BOARD_WORKER ? CHAN_WORKER : CHAN_LOOP,
	    kind == BOARD_WORKER ? WORKER_QUEUE : LOOP_QUEUE, m->on_message, m->on_child_gone, c);
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

size_t
child_count(const struct master *m, enum board_kind kind)
{
	struct child	*c;
	size_t		 n = 0;

	DL_FOREACH(m->children, c)
		n += c->kind == kind;
	return (n);
}

void
child_log_end(const struct child *c, int status)
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

bool
child_hangs(const struct child *c, int64_t now)
{
	int64_t alive = board_get(c->slot, BOARD_alive_mono);

	return (!c->killed && now - (alive != 0 ? alive : c->born_ms) >= (c->ready ? HUNG_MS : UNREADY_MS));
}
