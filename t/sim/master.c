/* SPDX-License-Identifier: ISC */
/*
 * The master as its loop knows it, and the channel between them (chan.h is answered
 * from here): one loop at a time, forked for the first hand-over, left to go when it
 * asks and nothing is on its way to it.  What a loop that died had not begun to
 * answer goes to the next one, as in master/group.c.
 */
#include <err.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/must.h"
#include "base/title.h"
#include "shared/board.h"
#include "shared/inherit.h"
#include "sim.h"
#include "sim_parts.h"

#define INBOX	1024
#define FLIGHTS	256
#define NUMBERS	100000

struct message {
	inbox_cb	*cb;
	void		*arg;
	int		 number;
};

struct flight {
	struct chan_handover	 handover;
	int			 fd;
	uint64_t		 number;	/* 0: for the next loop */
};

static struct message	 inbox[INBOX];
static size_t		 inbox_first, inbox_n;
static struct board	*board;
static struct board_slot *slot;
static struct chan	*channel;		/* the loop's end; NULL: none */
static struct flight	 flights[FLIGHTS];
static size_t		 nflights;
static uint64_t		 sent;
static bool		 gone[NUMBERS];		/* the loop has told that this connection has ended */
static bool		 leaving;		/* told to: the next hand-over is for the next loop */
static int64_t		 born_us;

/* --- what waits for the process ------------------------------------------------ */

void
inbox_put(inbox_cb *cb, void *arg, int number)
{
	must(inbox_n < INBOX);
	inbox[(inbox_first + inbox_n++) % INBOX] = (struct message){ cb, arg, number };
}

bool
inbox_turn(void)
{
	struct message m;

	if (inbox_n == 0)
		return (false);
	m = inbox[inbox_first];
	inbox_first = (inbox_first + 1) % INBOX;
	inbox_n--;
	m.cb(m.arg, m.number);
	return (true);
}

void
inbox_clear(void)
{
	inbox_n = 0;
}

/* --- chan.h ---------------------------------------------------------------------- */

void
chan_init(struct chan *c, struct ev_loop *ev, int fd, enum chan_role self, enum chan_role peer,
    size_t max_queued, chan_message_cb *on_message, chan_closed_cb *on_closed, void *arg)
{
	(void)max_queued;
	*c = (struct chan){ .fd = fd, .self = self, .peer = peer, .ev = ev, .arg = arg,
	    .on_message = on_message, .on_closed = on_closed };
	channel = c;
}

void
chan_fini(struct chan *c)
{
	c->fd = -1;
	channel = NULL;
}

static void
give_message(enum chan_type type, const union chan_payload *p, int fd)
{
	if (channel != NULL)
		channel->on_message(channel, type, p, fd);
}

static void
give_leave(void *arg, int number)
{
	union chan_payload p = { .nothing = { 0 } };

	(void)arg;
	(void)number;
	give_message(CHAN_LEAVE, &p, -1);
}

int
chan_send(struct chan *c, enum chan_type type, const void *payload, int *fd)
{
	const struct chan_leaving	*l = payload;
	const struct chan_gone		*g = payload;

	(void)c;
	(void)fd;
	switch (type) {
	case CHAN_READY:
		break;
	case CHAN_LEAVING:
		if (l->adopted == sent && !leaving) {
			leaving = true;
			inbox_put(give_leave, NULL, 0);
		}
		break;
	case CHAN_GONE:
		for (uint32_t i = 0; i < g->n; i++) {
			if (g->numbers[i] == 0 || g->numbers[i] > sent || g->numbers[i] >= NUMBERS || gone[g->numbers[i]])
				broken("channel", "the end of connection %llu is told, of %llu, or a second time",
				    (unsigned long long)g->numbers[i], (unsigned long long)sent);
			gone[g->numbers[i]] = true;
		}
		break;
	default:
		broken("channel", "a loop says %d to its master", (int)type);
	}
	return (0);
}

/* --- hand-overs --------------------------------------------------------------------- */

static void
give_adopt(void *arg, int number)
{
	size_t			 i;
	union chan_payload	 p;
	int			 fd;

	(void)arg;
	for (i = 0; i < nflights && flights[i].number != (uint64_t)number; i++)
		;
	must(i < nflights);
	memset(&p, 0, sizeof(p));
	p.handover = flights[i].handover;
	fd = flights[i].fd;
	tally->connections++;
	socket_adopted(fd);
	give_message(CHAN_ADOPT, &p, fd);
}

static void
send_off(struct flight *f)
{
	f->number = ++sent;
	inbox_put(give_adopt, NULL, (int)f->number);
}

static void
land(void)
{
	int64_t	begun = slot != NULL ? board_get(slot, BOARD_begun) : 0;
	size_t	i, kept = 0;

	for (i = 0; i < nflights; i++)
		if (flights[i].number == 0 || (int64_t)flights[i].number > begun)
			flights[kept++] = flights[i];
	nflights = kept;
}

void
master_hand_over(const struct chan_handover *h, int fd)
{
	land();
	must(nflights < FLIGHTS);
	flights[nflights] = (struct flight){ *h, fd, 0 };
	if (loop_lives && !leaving)
		send_off(&flights[nflights]);
	nflights++;
}

bool
master_wants_loop(void)
{
	return (nflights > 0);
}

static void
give_drain(void *arg, int spread_ms)
{
	union chan_payload p = { .drain = { spread_ms } };

	(void)arg;
	give_message(CHAN_DRAIN, &p, -1);
}

void
master_drain(int64_t spread_ms)
{
	if (!loop_lives || leaving)
		return;
	leaving = true;
	inbox_put(give_drain, NULL, (int)spread_ms);
}

static void
give_wrote(void *arg, int number)
{
	union chan_payload p;

	(void)arg;
	(void)number;
	memset(&p, 0, sizeof(p));
	p.wrote.key.match_id = MATCH;
	p.wrote.key.block_id = BLOCK_ID(0);
	give_message(CHAN_WROTE, &p, -1);
}

void
master_wrote(void)
{
	if (loop_lives && !leaving)
		inbox_put(give_wrote, NULL, 0);
}

bool
master_drains(void)
{
	return (leaving);
}

/* --- the loop's life ------------------------------------------------------------------ */

void
master_run_loop(void)
{
	struct inherit in;

	if (board == NULL && (board = board_new(4, NULL)) == NULL)
		err(2, "board");
	if ((slot = board_claim(board, BOARD_LOOP, MATCH, setup.match ? GROUP_WHOLE_MATCH : BLOCK_ID(0))) == NULL)
		err(2, "slot");
	in = (struct inherit){ .opts = &setup.opts, .board = board, .slot = slot, .channel_fd = -1, .listen_fd = -1,
	    .key = { MATCH, setup.match ? GROUP_WHOLE_MATCH : BLOCK_ID(0) } };
	sent = 0;
	memset(gone, 0, sizeof(gone));
	leaving = false;
	inbox_clear();
	for (size_t i = 0; i < nflights; i++)
		send_off(&flights[i]);
	born_us = world_us;
	say("a loop is forked");
	(void)loop_main(&in);
}

/* It has ended, or crashed: what it had begun ends with it, the rest is for the next one. */
void
master_loop_died(void)
{
	bool crashed = !leaving;

	say("the loop %s", crashed ? "crashed" : "left");
	land();
	for (size_t i = 0; i < nflights; i++) {
		if (flights[i].number == 0)
			continue;
		if (socket_answered(flights[i].fd))
			broken("begun", "the loop died, and a connection whose answer it had begun is not known as begun");
		flights[i].number = 0;
	}
	for (size_t i = 0, kept = nflights; i < kept; i++)
		if (!socket_is_open(flights[i].fd)) {	/* its browser went in the meantime */
			flights[i--] = flights[--kept];
			nflights = kept;
		}
	browser_loop_died();
	database_crash_loop();
	board_release(board, slot);
	slot = NULL;
	channel = NULL;
	inbox_clear();
	leaving = false;
}

bool
master_has_flight(int fd)
{
	for (size_t i = 0; i < nflights; i++)
		if (flights[i].fd == fd && flights[i].number == 0)
			return (true);
	return (false);
}

int64_t
master_loop_age_us(void)
{
	return (world_us - born_us);
}

int64_t
master_counter(int value)
{
	return (board == NULL ? 0 : board_total(board, (enum board_value)value));
}

/* --- small things that a loop uses and that are not to touch this process ------------------ */

void
title_set(const char *fmt, ...)
{
	(void)fmt;
}

int
malloc_trim(size_t pad)
{
	(void)pad;
	return (0);
}

static void
loop_says(const char *level, const char *fmt, va_list ap)
{
	char line[512];

	vsnprintf(line, sizeof(line), fmt, ap);
	say("loop: %s: %s", level, line);
}

#define LOG_FUNCTION(name, level)			\
void							\
name(const char *fmt, ...)				\
{							\
	va_list ap;					\
							\
	if (!verbose)					\
		return;					\
	va_start(ap, fmt);				\
	loop_says(level, fmt, ap);			\
	va_end(ap);					\
}
LOG_FUNCTION(log_warn, "warn")
LOG_FUNCTION(log_warnx, "warn")
LOG_FUNCTION(log_info, "info")
LOG_FUNCTION(log_debug, "debug")

void
log_process(const char *fmt, ...)
{
	(void)fmt;
}

int64_t
log_lost(void)
{
	return (0);
}

void
log_warnx_seldom(struct log_seldom *s, const char *fmt, ...)
{
	(void)s;
	say("loop: warn: %s", fmt);
}

void
fatal(const char *fmt, ...)
{
	broken("fatal", "the loop ended itself: %s", fmt);
}

void
fatalx(const char *fmt, ...)
{
	broken("fatal", "the loop ended itself: %s", fmt);
}
