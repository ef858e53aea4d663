/*
 * join - a worker that a web server started, made one of a master that runs
 * outside: what Apache mod_fcgid needs, which gives each process one request at
 * a time and would otherwise have a master and its loops per request.
 *
 * The control socket is a channel; the master's first word on it is WELCOME with
 * the scoreboard's memory.  From then on this is a worker like any other, but
 * that its death is the end of its channel instead of a SIGCHLD.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "board.h"
#include "chan.h"
#include "fd.h"
#include "inherit.h"
#include "log.h"
#include "mono.h"
#include "opts.h"

#define JOIN_TIMEOUT_MS		10000	/* the master may be restarting */
#define JOIN_PAUSE_MS		100

struct joining {
	struct ev_loop		*ev;
	struct chan_welcome	 welcome;
	int			 memory;	/* -1: refused */
};

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	struct joining *j = c->arg;

	if (type == CHAN_WELCOME) {
		j->welcome = p->welcome;
		j->memory = fd;
	}
	ev_break(j->ev, EVBREAK_ALL);
}

static void
on_closed(struct chan *c, const char *why)
{
	struct joining *j = c->arg;

	(void)why;
	ev_break(j->ev, EVBREAK_ALL);
}

static int
connect_master(const char *path)
{
	struct sockaddr_un	sun;
	int			fd;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	strcpy(sun.sun_path, path);	/* opts_tbl.h bounds its length */
	if ((fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) == -1)
		return (-1);
	if (connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == -1 || fd_nonblock(fd) == -1)
		fd_close(&fd);
	return (fd);
}

/* The master may not be there yet: try for a while.  Requests wait in the web server's backlog meanwhile. */
static int
find_master(const char *path)
{
	const struct timespec	pause = { 0, JOIN_PAUSE_MS * 1000000L };
	int64_t			until = mono_ms() + JOIN_TIMEOUT_MS;
	int			fd;

	while ((fd = connect_master(path)) == -1 && mono_ms() < until)
		nanosleep(&pause, NULL);
	if (fd == -1)
		fatal("join: %s: no master there; start one with --control %s", path, path);
	return (fd);
}

int
join_main(const struct opts *o)
{
	struct joining	 j = { .memory = -1 };
	struct inherit	 in;
	struct chan	 c;

	log_process("worker");
	memset(&in, 0, sizeof(in));
	in.opts = o;
	in.listen_fd = 0;
	if ((j.ev = ev_loop_new(EVFLAG_AUTO)) == NULL)
		fatalx("no event loop");
	chan_init(&c, j.ev, find_master(o->join), CHAN_WORKER, CHAN_MASTER, 1, on_message, on_closed, &j);
	ev_run(j.ev, 0);
	if (j.memory == -1)
		fatalx("join: %s: the master takes no more workers or is draining", o->join);
	if ((in.board = board_join(j.memory)) == NULL || j.welcome.slot >= in.board->nslots)
		fatalx("join: %s: the master is another version of seatcast; restart both", o->join);
	fd_close(&j.memory);
	in.slot = &in.board->slot[j.welcome.slot];
	in.channel_fd = chan_release(&c);
	ev_loop_destroy(j.ev);
	return (worker_main(&in));
}
