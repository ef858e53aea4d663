/* SPDX-License-Identifier: ISC */
/*
 * viewer - one connection: what it gets next, sending it, falling behind, its end.
 *
 * A viewer is in one list of its audience, by its state; viewer_move is the only
 * one that moves it.  Whoever owns the audience (fanout) decides when something is
 * sent; nothing here calls it back but to tell that a connection has ended.
 * Runs in: loop.  Never blocks (MSG_DONTWAIT).  Logs single viewers at debug.  A
 * function that sends may end the viewer: it is not to be used afterwards.
 * Owns its descriptor.
 */
#ifndef VIEWER_H
#define VIEWER_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct board_slot;
struct chan_handover;
struct chunk;
struct frames;
struct frameset;
struct pass;
struct poller;
struct viewer;

enum viewer_state {
	VIEWER_NEW,		/* in no list */
	VIEWER_WAITING,		/* in `waiting`: adopted, nothing to show yet; by number */
	VIEWER_LIVE,		/* in `live`: has all that there is; by when it was heard of last */
	VIEWER_BEHIND,		/* in `behind`: in the middle of something */
	VIEWER_ENDING		/* in `behind`: what it is given is its last */
};

/* All viewers of a group, and what they share.  Whoever has one fills ev to on_gone. */
struct audience {
	struct ev_loop		*ev;
	struct board_slot	*slot;
	const struct poller	*poller;
	struct frames		*frames;
	void			(*on_io)(struct ev_loop *ev, ev_io *w, int revents);	/* to call viewer_take */
	void			(*on_gone)(void *arg, uint64_t number);
	void			*arg;
	struct viewer		*waiting, *live, *behind;
	size_t			 count, nbehind, streams;
	int64_t			 events, bytes;		/* sent, and not yet on the board */
	bool			 starved;		/* out of memory; logged */
};

struct viewer {
	struct viewer		*prev, *next;
	struct audience		*audience;
	ev_io			 io;		/* its fd is the viewer's */
	struct frameset		*set;		/* the frames of its view */
	struct chunk		*pending;	/* being written; NULL: nothing is */
	uint64_t		 version;	/* that it has; 0: nothing yet */
	uint64_t		 pending_version;	/* that it has when pending is through; 0: as before */
	struct pass		*pass;		/* NULL: it is in none, and version says all */
	union {
		struct chan_handover	*handover;	/* NEW, WAITING */
		struct chunk		*rest;		/* ENDING: what comes after pending */
	};
	uint64_t		 number;	/* of its hand-over */
	int64_t			 heard_ms;	/* monotonic: last time it took bytes */
	int64_t			 behind_ms;	/* monotonic: since when it has been behind */
	uint32_t		 offset;	/* of pending */
	uint16_t		 request_id;
	uint8_t			 state;		/* enum viewer_state */
	bool			 is_stream : 1;
	bool			 gives_way : 1;	/* WAITING: it is to be refused, its client has many */
	bool			 beat_owed : 1;
	bool			 told_stale : 1;
	bool			 slow : 1;	/* had to wait for room since its version */
	bool			 starved : 1;	/* memory was missing: try again later */
	bool			 end_owed : 1;	/* ENDING: the end of the request comes after rest */
};

/* It waits.  Takes fd on success only.  NULL: ENOMEM. */
struct viewer	*viewer_new(struct audience *a, const struct chan_handover *h, int fd, uint64_t number);

/*
 * The answer to one that waits.  0; -1: ENOMEM, nothing was sent and it still waits.
 * start: a stream.  answer: head and then body (NULL: none), whose references are taken, and then the end.
 */
int		 viewer_start(struct viewer *v);
int		 viewer_answer(struct viewer *v, struct chunk *head, struct chunk *body);
/* A whole refusal to one that waits, and the end; needs no memory.  -1: not now, it still waits. */
int		 viewer_last_words(struct viewer *v, const void *cgi, size_t len);

void		 viewer_push(struct viewer *v);		/* send until nothing is owed or the connection takes no more */
void		 viewer_take(struct viewer *v, int revents);	/* what its connection has for us */
void		 viewer_start_pass(struct viewer *v);	/* a new version comes and it is in the middle of a frame */
void		 viewer_send_away(struct viewer *v, int64_t back_ms);	/* end it; it is to come back in so long, or somewhat later */
void		 viewer_end(struct viewer *v);		/* politely, if no record is half written */
void		 viewer_drop(struct viewer *v);		/* close, without a word */

#endif
