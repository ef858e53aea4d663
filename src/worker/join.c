/* SPDX-License-Identifier: ISC */
/*
 * join - a worker that a web server started, made one of a master that runs
 * outside: what Apache mod_fcgid needs, which gives each process one request at
 * a time and would otherwise have a master and its loops per request.
 *
 * The control socket is a channel; the master's first words on it are WELCOME with
 * the scoreboard's memory, to be read, and SLOT with memory for what this worker
 * shows of itself.  From then on this is a worker like any other, but
 * that its death is the end of its channel instead of a SIGCHLD.
 *
 * With --start whoever finds no master makes one.  PATH.lock sees to it that only
 * one does: the master holds it for its whole life, so while one is starting or
 * draining the others wait.  Without a master by the deadline the worker serves
 * alone: it answers what needs none, and asks streams to come back, since a
 * browser's EventSource would give up for good on the web server's error page.
 */
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <bsd/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/evloop.h"
#include "base/fd.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/mono.h"
#include "base/opts.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "shared/inherit.h"

#define JOIN_TIMEOUT_MS		3000	/* the master may be restarting */
#define JOIN_PAUSE_MS		100
#define LOCK_FD			3	/* in the master: the only descriptor it keeps */

struct joining {
	struct ev_loop		*ev;
	ev_timer		 deadline;
	int			 board, slot;	/* their memory; -1: not welcome (yet) */
	bool			 start;		/* a master, if there is none */
	const char		*why;		/* the master of the last try is none for us */
};

/* --- a master where there is none -------------------------------------------- */

static int
connect_master(const char *path)
{
	struct sockaddr_un	sun;
	int			fd;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	strcpy(sun.sun_path, path);	/* opts_tbl.h bounds its length */
	if ((fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return (-1);
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == -1)
		fd_close(&fd);
	return (fd);
}

/* In a process of its own, with the lock: nothing is left of the worker but where its log goes. */
static int
be_master(const struct opts *worker, int lock)
{
	struct opts	o = *worker;
	char		error[512];
	int		null, control;

	setsid();
	signal(SIGTERM, SIG_DFL);	/* until the master has its own */
	signal(SIGUSR1, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	if ((null = open("/dev/null", O_RDWR)) == -1 || dup2(null, 0) == -1 || dup2(null, 1) == -1 ||
	    (lock != LOCK_FD && dup2(lock, LOCK_FD) == -1) || fd_cloexec(LOCK_FD) == -1)
		fatal("start");
	closefrom(LOCK_FD + 1);
	log_forked();
	o.control = o.join;
	o.join = NULL;
	log_process("master");
	if ((control = listener_open_control(o.control, (mode_t)o.listen_mode, LOCK_FD, error, sizeof(error))) == -1)
		fatalx("start: %s", error);
	return (master_main(&o, -1, control));
}

/*
 * Start a master unless somebody else is one, or is about to be.  The process in
 * between ends at once, so that the master is init's and no worker's child.
 * Blocks for a fork.  -1: it can't be done, and trying again is of no use; logged.
 */
static int
start_master(const struct opts *o)
{
	pid_t	pid;
	int	fd, lock;

	if ((lock = listener_lock(o->join)) == -1) {
		if (errno == EWOULDBLOCK)
			return (0);
		log_warn("start: %s.lock: let the user that runs the web server's programs write there", o->join);
		return (-1);
	}
	if ((fd = connect_master(o->join)) != -1) {	/* one without --start */
		fd_close(&fd);
		fd_close(&lock);
		return (0);
	}
	fflush(NULL);
	if ((pid = fork()) == 0) {
		if ((pid = fork()) == 0)
			exit(be_master(o, lock));
		_exit(pid == -1);
	}
	if (pid == -1)
		log_warn("start: no new process for now");
	else
		(void)waitpid(pid, NULL, 0);
	fd_close(&lock);	/* the master's copy holds it */
	return (0);
}

/* --- joining ----------------------------------------------------------------- */

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	struct joining *j = c->arg;

	(void)p;
	if (type == CHAN_WELCOME && j->board == -1) {
		j->board = fd;
		return;
	}
	if (type == CHAN_SLOT)
		j->slot = fd;
	else
		fd_close(&fd);
	ev_break(j->ev, EVBREAK_ALL);
}

static void
on_closed(struct chan *c, const char *why)
{
	struct joining *j = c->arg;

	(void)why;
	ev_break(j->ev, EVBREAK_ALL);
}

static void
on_deadline(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)w;
	(void)revents;
	ev_break(ev, EVBREAK_ALL);
}

/* Wait for WELCOME on a connected channel.  0: in has slot, board and channel. */
static int
enter(struct joining *j, struct inherit *in, int fd, int64_t until)
{
	struct chan	c;
	int64_t		left = until - mono_ms();

	chan_init(&c, j->ev, fd, CHAN_WORKER, CHAN_MASTER, 1, on_message, on_closed, j);
	ev_timer_init(&j->deadline, on_deadline, left > 0 ? (double)left / 1000 : 0., 0.);
	ev_now_update(j->ev);
	ev_timer_start(j->ev, &j->deadline);
	ev_run(j->ev, 0);
	ev_timer_stop(j->ev, &j->deadline);
	j->why = "takes no more workers, or none of this user's, is draining or does not answer";
	if (j->board != -1 && j->slot != -1 && ((in->board = board_join(j->board)) == NULL ||
	    (in->slot = board_slot_join(j->slot)) == NULL)) {
		j->why = "is another version of seatcast: restart it";
		in->board = NULL;
	}
	fd_close(&j->board);
	fd_close(&j->slot);
	if (in->board == NULL) {
		chan_fini(&c);
		return (-1);
	}
	in->channel_fd = chan_release(&c);
	return (0);
}

/* The master may not be there yet, or be going: try for a while.  Requests wait in the web server's backlog meanwhile. */
static int
join(struct joining *j, struct inherit *in)
{
	const struct timespec	 pause = { 0, JOIN_PAUSE_MS * 1000000L };
	const char		*path = in->opts->join;
	int64_t			 until = mono_ms() + JOIN_TIMEOUT_MS;
	int			 fd;

	do {
		if ((fd = connect_master(path)) != -1) {
			if (enter(j, in, fd, until) == 0)
				return (0);
		} else if (j->start && start_master(in->opts) == -1)
			j->start = false;
		nanosleep(&pause, NULL);
	} while (mono_ms() < until);
	log_warnx("join: %s: the master %s; serving without it", path, j->why);
	return (-1);
}

/* A scoreboard and a channel of our own, on which nobody answers. */
static void
be_alone(struct inherit *in, int fds[2])
{
	struct board *b = board_new(1, NULL);

	if (b == NULL || (in->slot = board_claim(b, BOARD_WORKER, 0, 0)) == NULL || chan_pair(fds) == -1)
		fatal("join");
	in->board = b;
	in->channel_fd = fds[1];
	in->alone = true;
}

/* Until it serves nothing is lost; then the worker's own handlers follow. */
static void
end_at_once(int sig)
{
	(void)sig;
	_exit(0);
}

int
join_main(const struct opts *o)
{
	struct joining	 j = { .board = -1, .slot = -1, .start = o->start, .why = "is not there" };
	struct inherit	 in = { .opts = o };	/* listen_fd: descriptor 0 */
	int		 fds[2] = { -1, -1 }, status;

	log_process("worker");
	signal(SIGTERM, end_at_once);
	signal(SIGUSR1, end_at_once);
	signal(SIGINT, end_at_once);
	j.ev = evloop_new();
	if (join(&j, &in) == -1)
		be_alone(&in, fds);
	log_watch(board_say, in.slot);
	ev_loop_destroy(j.ev);
	status = worker_main(&in);
	fd_close(&fds[0]);
	return (status);
}
