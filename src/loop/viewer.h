/*
 * viewer.h - what the files of the fan-out share: one viewer, and the struct that
 * has all of them.  Nobody else includes it.
 *
 * viewer.c	one viewer: what it gets next, sending it, falling behind, its end
 * fanout.c	all of them: who comes, who waits, each new version, sweeps, drain
 *
 * Runs in: loop.  Nothing here blocks.  A function that sends may end the viewer:
 * it is not to be used afterwards.
 */
#ifndef VIEWER_H
#define VIEWER_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/fanout.h"
#include "loop/sse.h"

struct frames;
struct chunk;

enum viewer_state {
	VIEWER_WAITING,		/* in `waiting`: adopted, no state to show yet */
	VIEWER_LIVE,		/* in `live`: gets every version */
	VIEWER_ENDING		/* in `live`: what is pending is its last */
};

struct viewer {
	struct viewer		*prev, *next;
	struct fanout		*fanout;
	ev_io			 io;
	struct chunk		*pending;	/* being written; NULL: caught up with what it was given */
	size_t			 offset;
	struct sse_known	 known;		/* what it has; version 0: nothing yet */
	struct sse_known	 pending_known;	/* what it will have when pending is through */
	uint64_t		 pass_version;	/* of the frame that the pass completes; 0: in none */
	int64_t			 pass_from;	/* the seat where it began */
	int64_t			 pass_seat;	/* and where it goes on */
	uint64_t		 pass_at;	/* version of the seats when it began; 0: no part yet */
	uint64_t		 number;	/* of its hand-over */
	int64_t			 progress_ms;	/* monotonic: last time it took bytes */
	int64_t			 behind_ms;	/* monotonic: since when something is pending; 0: nothing is */
	int			 fd;
	uint16_t		 request_id;
	uint8_t			 state;		/* enum viewer_state */
	bool			 head_owed;
	bool			 beat_owed;
	bool			 told_stale;
	bool			 slow;		/* had to wait for room since its version */
	struct chan_handover	*handover;	/* WAITING only */
};

struct fanout {
	struct ev_loop		*ev;
	const struct opts	*opts;
	struct board_slot	*slot;
	const struct poller	*poller;
	struct frames		*frames;
	uint32_t		 epoch;
	fanout_idle_cb		*on_idle;
	fanout_gone_cb		*on_gone;
	void			*arg;
	struct viewer		*live, *waiting;
	size_t			 count, streams;
	uint64_t		 number;	/* of the last connection attached */
	int64_t			 events, bytes;	/* not yet on the board */
	ev_timer		 sweep;
	ev_timer		 wait_timer;
	ev_timer		 drain_timer;
	bool			 draining;
	int64_t			 drain_start_ms, drain_end_ms;
	size_t			 drain_total;
};

/* viewer.c */
void	viewer_push(struct viewer *v);		/* send until nothing is owed or the connection takes no more */
void	viewer_give_last(struct viewer *v, struct chunk *p);	/* its whole answer, then the end; takes p's reference, NULL (ENOMEM): just the end */
void	viewer_start_pass(struct viewer *v);	/* a new version comes and it is in the middle of a frame */
void	viewer_send_away(struct viewer *v, int64_t drain_left_ms);	/* end it; it is to come back when the drain is over */
void	viewer_end(struct viewer *v);		/* politely, if no record is half written */
void	viewer_drop(struct viewer *v);		/* close, without a word */
void	viewer_watch(struct viewer *v, int events);	/* EV_READ, EV_WRITE */
void	viewer_on_io(struct ev_loop *ev, ev_io *w, int revents);

/* fanout.c */
void	fanout_flush_counters(struct fanout *f);	/* to the board: after each round of sending */

#endif
