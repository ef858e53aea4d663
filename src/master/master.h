/* SPDX-License-Identifier: ISC */
/*
 * master.h - what the files of the master process share: its state, its children,
 * its groups.  No other process includes it.
 *
 * master.c	life: start, signals, who joins, who dies, drain
 * child.c	one child: its birth, its name, how it ended, whether it hangs
 * control.c	workers that join from outside
 * client.c	who has how much of what there is
 * group.c	which loop serves a group, and the connections on their way to it
 *
 * Nothing here blocks.  Everything belongs to the one struct master.
 */
#ifndef MASTER_H
#define MASTER_H

#include <sys/types.h>

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include <uthash.h>

#include "base/cred.h"
#include "master/client.h"
#include "shared/board.h"
#include "shared/chan.h"

#define WORKER_QUEUE		256	/* messages a worker may be behind */
#define BACKOFF_LAST_MS		60000	/* the longest that anything waits after dying young */

struct opts;

struct backoff {
	unsigned	deaths;		/* young ones in a row */
	int64_t		pause_ms;	/* 0: none */
	int64_t		until_ms;	/* monotonic */
};

struct group {
	struct group_key	 key;
	struct child		*loop;		/* NULL: none at the moment */
	struct backoff		 backoff;
	UT_hash_handle		 hh;
};

/* A connection on its way to a loop. */
struct transfer {
	struct transfer		*prev, *next;
	uint64_t		 number;	/* of the ADOPT message */
	struct chan_handover	 handover;
	uint64_t		 from;		/* id of the worker that it came from */
	int			 fd;		/* our duplicate */
};

struct child {
	struct child		*prev, *next;
	struct master		*master;
	enum board_kind		 kind;
	pid_t			 pid;
	struct chan		 chan;
	struct board_slot	*slot;
	struct board_slot	*own_slot;	/* joined: what it shows of itself; not to be believed */
	uint64_t		 id;		/* of this child, and of no other ever */
	struct group_key	 key;		/* loops */
	uint64_t		 sent;		/* loops: ADOPT messages */
	int64_t			 lost;		/* loops: LOST messages received */
	uint64_t		 made_by;	/* loops: id of the worker whose hand-over was the first */
	struct attendance	 attendance;	/* loops: whose connections it has */
	struct transfer		*transfers;	/* loops: those whose answer has not begun */
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
	uint64_t		 last_id;	/* of a child */
	struct cred_list	 peers;		/* users that may join */
	int64_t			 born_ms;	/* monotonic */
	bool			 hears_signals;
	ev_async		 keep_pipe;	/* libev's, see on_tick */
	int64_t			 used_ms;	/* monotonic: when there was a child */
	struct child		*children;
	struct group		*groups;
	struct clients		 clients;
	struct backoff		 worker_backoff;
	bool			 draining;
	bool			 stopping;	/* workers were told to go */
	bool			 fork_failed;	/* logged */
	bool			 told_ready;
	chan_message_cb		*on_message;	/* of every child's channel */
	chan_closed_cb		*on_child_gone;
	ev_timer		 tick;
	ev_timer		 restart;	/* of missing workers */
	ev_timer		 deadline;	/* of the drain */
	ev_timer		 grace;		/* before it, on a given socket: what was accepted comes through */
	ev_timer		 successor_look;	/* while draining: is somebody else at our path? */
	ev_timer		 transfer_look;	/* while connections are on their way */
	ev_io			 control;
	ev_timer		 control_pause;	/* out of descriptors for who joins */
	ev_signal		 sigchld, sigterm, sigusr1, sigint;
};

/* child.c */
struct child	*child_spawn(struct master *m, enum board_kind kind, const struct group_key *key);	/* NULL: no slot, descriptor, memory or process; logged once */
const char	*child_name(const struct child *c, char *out, size_t size);	/* "loop 1/101" */
void		 child_log_end(const struct child *c, int status);
bool		 child_hangs(const struct child *c, int64_t now);	/* no turn of its event loop for too long */
size_t		 child_count(const struct master *m, enum board_kind kind);
void		 backoff_grow(struct backoff *b, int64_t lived_ms, unsigned forgiven);	/* one more died; `forgiven` young deaths in a row cost nothing */

/* master.c */
void	master_go_on_draining(struct master *m);	/* a child is gone: is it time for the next step? */

/* control.c */
#define CONTROL_SLOTS	1024			/* workers that may have joined */
void	control_start(struct master *m);
void	control_show(struct master *m);		/* what they show of themselves, to the board */
void	control_bury(struct child *c);		/* one has left, or is to */

/* group.c */
void	group_handover(struct master *m, uint64_t from, struct chan_handover h, int fd);	/* takes fd; from: id of the worker that it came from */
void	group_detach(struct master *m, struct child *loop);	/* the group has no loop any more */
void	group_let_go(struct child *loop);			/* answer its LEAVING, or make room */
void	group_gone(struct child *loop, const struct chan_gone *gone);	/* connections there have ended */
void	group_wrote(struct master *m, const struct chan_wrote *wrote);	/* to the loops of the block and of its match, where they live */
void	group_crashed(struct master *m, struct child *loop);	/* its next loop may have to wait */
bool	group_settle(struct child *loop);	/* give up duplicates of what it has begun to answer; true: some are left */
void	group_rescue(struct master *m, struct transfer *transfers);	/* of a loop that died: to the next one.  Frees them */
void	group_lost(struct master *m, struct child *loop, uint64_t number);	/* it could not take that ADOPT: refuse it */
void	group_expire(struct master *m, int64_t now);		/* forget groups that crashed and were not asked for again */

#endif
