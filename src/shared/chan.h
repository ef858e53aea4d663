/* SPDX-License-Identifier: ISC */
/*
 * chan - typed messages between two processes, at most one descriptor each.
 *
 * One end of a SOCK_SEQPACKET pair, so a message is one sendmsg and one recvmsg
 * and can't be merged or split.  Sending never blocks: what the peer can't take
 * now waits in a bounded queue; a full queue is the caller's to handle.  The
 * table in chan_tbl.h is enforced here on both ends.
 * Runs in: master, workers, loops.  Logs nothing.
 * A descriptor sent is closed here once the kernel has it; one received belongs
 * to the callback.
 */
#ifndef CHAN_H
#define CHAN_H

#include <ev.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/group.h"
#include "wire/stream_id.h"

enum chan_role {
	CHAN_MASTER = 1,
	CHAN_WORKER = 2,
	CHAN_LOOP = 4
};

enum chan_kind {
	CHAN_STREAM,
	CHAN_SNAPSHOT,		/* the seats, or the counts of a match, once */
	CHAN_CHANGES		/* what changed since `resume`, once (SPEC 2b) */
};

#define CHAN_ETAG_BYTES	256

struct chan_nothing {
	char		 none;
};

#define CHAN_ORIGIN_BYTES	256
#define CHAN_CLIENT_BYTES	64

struct chan_handover {
	struct group_key key;
	struct view	 view;		/* what of the group's seats it is to see */
	int64_t		 accepted_ms;	/* monotonic clock, the same in all processes */
	struct stream_id resume;	/* epoch 0: not understood, or (version 0) none */
	uint16_t	 request_id;
	uint8_t		 kind;		/* enum chan_kind */
	uint8_t		 sse;		/* Accept names text/event-stream: refuse with busy */
	uint8_t		 head;		/* HEAD: without the body; of a stream, its header alone */
	char		 if_none_match[CHAN_ETAG_BYTES];	/* SNAPSHOT; "" none */
	char		 origin[CHAN_ORIGIN_BYTES];	/* allowed by --allow-origin, to be named in the answer; "" none */
	char		 client[CHAN_CLIENT_BYTES];	/* --client-param; "" not known */
};

struct chan_refusal {
	struct chan_handover	handover;
	uint32_t		reason;		/* enum refusal_reason */
};

struct chan_lost {
	uint64_t	number;		/* of the ADOPT message, from 1 */
};

struct chan_give_way {
	uint64_t	number;		/* of the ADOPT message */
};

#define CHAN_GONE_MAX	64

struct chan_gone {
	uint32_t	n;
	uint64_t	numbers[CHAN_GONE_MAX];	/* of their ADOPT messages; each is told once */
};

struct chan_leaving {
	uint64_t	adopted;	/* ADOPT messages received since birth */
};

struct chan_wrote {
	struct group_key	key;		/* a block's; its match's loop is told too */
};

struct chan_drain {
	int64_t		spread_ms;	/* 0: at once */
};

enum chan_type {
#define CHAN_MSG(NAME, from, to, payload, fd, text)	CHAN_##NAME,
#include "shared/chan_tbl.h"
#undef CHAN_MSG
	CHAN__MAX
};

union chan_payload {
	struct chan_nothing	nothing;
	struct chan_handover	handover;
	struct chan_refusal	refusal;
	struct chan_lost	lost;
	struct chan_give_way	give_way;
	struct chan_gone	gone;
	struct chan_leaving	leaving;
	struct chan_wrote	wrote;
	struct chan_drain	drain;
};

struct chan;

/*
 * A message came; fd is the callee's, or -1 (also for a message that carries
 * one, when this process is out of descriptors).  payload lives until return.
 * The callee may chan_fini.
 */
typedef void chan_message_cb(struct chan *c, enum chan_type type, const union chan_payload *payload, int fd);
/* The peer is gone (why NULL) or broke the table (why says how).  Called once; the callee calls chan_fini. */
typedef void chan_closed_cb(struct chan *c, const char *why);

struct chan_queued;
struct chan {
	int			 fd;
	enum chan_role		 self;
	enum chan_role		 peer;
	void			*arg;		/* the owner's */
	struct ev_loop		*ev;
	ev_io			 in;
	ev_io			 out;
	ev_timer		 rest;		/* the kernel has no memory for us: look again later */
	chan_message_cb		*on_message;
	chan_closed_cb		*on_closed;
	struct chan_queued	*queue;
	size_t			 queued;
	size_t			 max_queued;
};

/* A connected pair, CLOEXEC and non-blocking.  -1: errno. */
int	chan_pair(int fds_r[2]);

/* Take over fd (one end of a pair) and watch it on ev. */
void	chan_init(struct chan *c, struct ev_loop *ev, int fd, enum chan_role self, enum chan_role peer,
	    size_t max_queued, chan_message_cb *on_message, chan_closed_cb *on_closed, void *arg);
/* Deliver what a peer that has ended had said before; it may be closed then. */
void	chan_read_all(struct chan *c);
void	chan_fini(struct chan *c);	/* stops, closes, drops the queue with its descriptors */
int	chan_release(struct chan *c);	/* stops; the descriptor is the caller's again */

/*
 * Send, or queue when the peer can't take it now.  payload may be NULL for
 * struct chan_nothing.  fd: NULL, or the descriptor that moves; taken (-1 in *fd) on success only.
 * 0, or -1: ENOBUFS (queue full), EPIPE, ETOOMANYREFS, ENOMEM …
 */
int	chan_send(struct chan *c, enum chan_type type, const void *payload, int *fd);
/* The same for a descriptor that stays the caller's. */
int	chan_send_shared(struct chan *c, enum chan_type type, const void *payload, int fd);

#endif
