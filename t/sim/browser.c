/* SPDX-License-Identifier: ISC */
/*
 * Browsers and the sockets that lead to them.  send, recv and close of the loop end
 * here (the program's own take the place of libc's).
 *
 * A browser checks every byte: FastCGI records, the response header, the stream's
 * lines, the JSON by its letters.  What it shows is the oracle's to judge.  It takes
 * an id with its event, as WHATWG says, or (an early one) when the id's line arrives,
 * as clients in use do; and it comes back with it.
 */
#include <sys/socket.h>
#include <sys/syscall.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/must.h"
#include "shared/board.h"
#include "sim.h"
#include "sim_parts.h"

#define FD_BASE		100000
#define SOCKETS		256		/* at once; a number is not given twice in a story */
#define LINE_MAX_BYTES	65536
#define PIPE_PARTS	512
#define PIPE_BYTES	65536		/* what the kernel takes for a browser that reads nothing */
#define BUSY_AFTER_US	(5 * SECOND)	/* SPEC 1: so long a stream may wait for a state to show */

enum parse { P_RECORD, P_CONTENT, P_ENDED };

struct browser {
	int		 who;
	/* what it shows */
	bool		 shows;				/* an init was taken in */
	uint8_t		 status[MAX_SEATS];
	uint32_t	 index[MAX_SEATS];		/* in the seat's history */
	bool		 counted;
	int		 counts[MAX_BLOCKS][3];
	bool		 stale;
	/* what it asks for */
	bool		 wanted;			/* comes back when its connection ends */
	bool		 early;
	bool		 garbage;			/* Last-Event-ID is nonsense this time */
	uint16_t	 request_id;
	struct view	 view;
	struct view	 id_view;	/* for which its id was given */
	char		 id[STREAM_ID_BYTES];
	char		 claim[STREAM_ID_BYTES];	/* instead of its own, the next time */
	int64_t		 id_us;
	int64_t		 retry_ms;
	int		 returns;			/* serial of the timer */
	enum net	 net;
	int		 net_amount;
	/* this connection */
	int		 fd;				/* -1: none */
	enum chan_kind	 kind;
	int64_t		 came_us, bytes_us, progress_us, opened_us;
	uint64_t	 opened_turn;			/* the loop has had a turn since then: it is to be up to date */
	bool		 adopted;
	size_t		 got;
	bool		 head, resumed, first, ever_slow, refused, closing, updated_since_id;
	int64_t		 last_seat;			/* of this batch */
	uint32_t	 epoch;
	uint64_t	 version;
	/* parsing */
	enum parse	 parse;
	unsigned char	 record[8];
	size_t		 record_n, content, padding;
	uint8_t		 type;
	char		*line;
	size_t		 line_n;
	char		*event, *data;
	char		 event_id[STREAM_ID_BYTES];
	bool		 has_event, has_data, has_id;
	/* an answer that is no stream */
	char		 etag[64], new_etag[64];
	uint8_t		 etag_status[MAX_SEATS];
	int		 http, header_lines;
};

struct sock {
	int		 fd;
	struct browser	*b;		/* NULL: nobody reads any more */
	bool		 peer_closed, reset, aborts, half_record_seen;
	int64_t		 room;
	int		 cut;		/* bytes until it dies; -1: it doesn't */
	char		*pipe;		/* what the kernel has taken and nobody has read */
	size_t		 piped;
	struct {
		int64_t	 at_us;
		size_t	 end;
	} parts[PIPE_PARTS];		/* … and when it was sent */
	int		 nparts;
	size_t		 out;		/* bytes the loop has sent */
	bool		 closed;	/* by the loop */
};

static struct browser	 browsers[BROWSERS];
static struct sock	 socks[SOCKETS];
static int		 next_fd = FD_BASE;
int64_t			 delivery_us;

static void	take(struct browser *b, const unsigned char *p, size_t n);
static void	come_back(struct browser *b, int64_t after_ms);
static void	connect_now(struct browser *b);

static struct sock *
sock_of(int fd)
{
	struct sock *s = &socks[fd % SOCKETS];

	return (fd >= FD_BASE && s->fd == fd ? s : NULL);
}

static void
sock_free(struct sock *s)
{
	free(s->pipe);
	*s = (struct sock){ .fd = -1 };
}

/* The connection is over for its browser. */
static void
ended(struct browser *b)
{
	struct sock *s = b->fd != -1 ? sock_of(b->fd) : NULL;

	if (s != NULL) {
		s->b = NULL;
		if (s->closed)
			sock_free(s);
	}
	b->fd = -1;
	free(b->event);
	free(b->data);
	b->event = b->data = NULL;
	if (b->wanted && b->kind == CHAN_STREAM)
		come_back(b, b->retry_ms);
}

/* --- sockets, as the loop has them ---------------------------------------------- */

int
socket_events(int fd)
{
	struct sock	*s = sock_of(fd);
	int		 events = 0;

	if (s == NULL || s->closed)
		return (0);
	if (s->peer_closed || s->reset || s->aborts)
		events |= EV_READ;
	if (s->room > 0 || s->reset)
		events |= EV_WRITE;
	return (events);
}

void
socket_adopted(int fd)
{
	struct sock *s = sock_of(fd);

	if (s != NULL && s->b != NULL) {
		s->b->adopted = true;
		s->b->opened_turn = world_turns;
	}
}

int
socket_answered(int fd)
{
	struct sock *s = sock_of(fd);

	return (s != NULL && s->out > 0);
}

bool
socket_is_open(int fd)
{
	struct sock *s = sock_of(fd);

	return (s != NULL && !s->closed);
}

/* n bytes have come through to the browser. */
static void
arrive(struct sock *s, const unsigned char *p, size_t n)
{
	struct browser *b = s->b;

	if (b == NULL || n == 0)
		return;
	if (s->cut >= 0 && (size_t)s->cut <= n) {
		n = (size_t)s->cut;
		s->reset = true;
		take(b, p, n);
		if (b->fd == s->fd) {
			say("browser %d: its connection died after %zu bytes", b->who, b->got);
			ended(b);
		}
		return;
	}
	if (s->cut >= 0)
		s->cut -= (int)n;
	take(b, p, n);
}

static void
empty_pipe(struct sock *s)
{
	size_t	 from = 0;
	int	 n = s->nparts, fd = s->fd;

	s->piped = 0;
	s->nparts = 0;
	for (int i = 0; i < n && s->fd == fd && s->b != NULL; i++) {
		delivery_us = s->parts[i].at_us;
		arrive(s, (unsigned char *)s->pipe + from, s->parts[i].end - from);
		from = s->parts[i].end;
	}
}

ssize_t
send(int fd, const void *bytes, size_t len, int flags)
{
	struct sock	*s = sock_of(fd);
	struct browser	*b;

	must((flags & (MSG_DONTWAIT | MSG_NOSIGNAL)) == (MSG_DONTWAIT | MSG_NOSIGNAL));
	if (s == NULL || s->closed)
		broken("descriptors", "a send to a descriptor that is not the loop's: %d", fd);
	if (s->reset) {
		errno = EPIPE;
		return (-1);
	}
	if (len == 0)
		return (0);
	if (s->room <= 0) {
		errno = EAGAIN;
		return (-1);
	}
	if ((size_t)s->room < len)
		len = (size_t)s->room;
	s->out += len;
	b = s->b;
	if (b != NULL && b->net != NET_OPEN)
		s->room -= (int64_t)len;
	if (b != NULL) {
		b->progress_us = world_us;
		if (b->net == NET_BUFFER) {
			must(s->piped + len <= PIPE_BYTES);
			memcpy(s->pipe + s->piped, bytes, len);
			s->piped += len;
			if (s->nparts < PIPE_PARTS)
				s->nparts++;
			s->parts[s->nparts - 1].at_us = world_us;
			s->parts[s->nparts - 1].end = s->piped;
		} else {
			delivery_us = world_us;
			arrive(s, bytes, len);
		}
	}
	return ((ssize_t)len);
}

/* One piece for the kernel: what has no room any more is not taken. */
ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t	n, taken = 0;
	size_t	i;

	must(msg->msg_control == NULL);
	for (i = 0; i < msg->msg_iovlen; i++) {
		n = send(fd, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len, flags);
		if (n == -1)
			return (taken > 0 ? taken : -1);
		taken += n;
		if ((size_t)n < msg->msg_iov[i].iov_len)
			break;
	}
	return (taken);
}

ssize_t
recv(int fd, void *bytes, size_t len, int flags)
{
	static const unsigned char abort_record[8] = { 1, 2, 0, 1, 0, 0, 0, 0 };
	struct sock *s = sock_of(fd);

	(void)flags;
	if (s == NULL || s->closed)
		broken("descriptors", "a recv from a descriptor that is not the loop's: %d", fd);
	if (s->aborts) {
		s->aborts = false;
		must(len >= sizeof(abort_record));
		memcpy(bytes, abort_record, sizeof(abort_record));
		return (sizeof(abort_record));
	}
	if (s->reset) {
		errno = ECONNRESET;
		return (-1);
	}
	if (s->peer_closed)
		return (0);
	errno = EAGAIN;
	return (-1);
}

/* The loop closes a connection: may it? */
static void
closed_by_loop(struct sock *s)
{
	struct browser *b = s->b;

	if (b == NULL)
		return;
	if (b->parse != P_ENDED && !s->peer_closed && !s->reset) {
		int64_t	silent_ms = (world_us - b->progress_us) / 1000;
		bool	stalled = b->net != NET_OPEN && silent_ms + 1 >= setup.opts.stall_timeout_ms;
		bool	drained = master_drains() && b->net != NET_OPEN;

		if (!stalled && !drained)
			broken("closed", "browser %d: its connection is closed without the end of the answer, after %zu bytes; "
			    "it took bytes %lld ms ago", b->who, b->got, (long long)silent_ms);
		say("browser %d: closed by the loop", b->who);
	}
	ended(b);
}

int
close(int fd)
{
	struct sock *s = sock_of(fd);

	if (fd < FD_BASE)
		return ((int)syscall(SYS_close, fd));
	if (s == NULL || s->closed)
		broken("descriptors", "descriptor %d is closed twice", fd);
	s->closed = true;
	empty_pipe(s);		/* what the kernel has taken still arrives */
	if (s->fd != -1)
		closed_by_loop(s);
	if (sock_of(fd) == s)
		sock_free(s);
	return (0);
}

void
browser_loop_died(void)
{
	for (int i = 0; i < SOCKETS; i++) {
		struct sock *s = &socks[i];

		if (s->fd < FD_BASE || master_has_flight(s->fd))
			continue;
		s->closed = true;
		if (s->b != NULL) {
			if (s->out == 0 && s->room > 0 && !s->b->ever_slow)	/* else it may have taken nothing when asked */
				broken("answered", "browser %d: the loop is gone, said that it had begun to answer, and had not: "
				    "the web server says 500 and EventSource gives up", s->b->who);
			ended(s->b);
		}
		if (s->fd != -1)
			sock_free(s);
	}
}

/* --- the network --------------------------------------------------------------------- */

static void
trickle(void *arg, int fd)
{
	struct browser	*b = arg;
	struct sock	*s = b->fd == fd ? sock_of(fd) : NULL;

	if (s == NULL || b->net != NET_SLOW)
		return;
	if (s->room < b->net_amount)
		s->room += dice_between(D_ROOM, b->who, 1, b->net_amount);
	world_at(world_us + dice_between(D_ROOM, b->who, 20, 700) * MS, trickle, b, fd);
}

static void
apply_net(struct browser *b)
{
	struct sock *s = b->fd != -1 ? sock_of(b->fd) : NULL;

	if (s == NULL)
		return;
	if (b->net != NET_OPEN)
		b->ever_slow = true;
	switch (b->net) {
	case NET_OPEN:
		s->room = INT64_C(1) << 40;
		b->opened_us = world_us;
		b->opened_turn = world_turns;
		break;
	case NET_SLOW:
		s->room = b->net_amount;
		world_at(world_us + 100 * MS, trickle, b, b->fd);
		break;
	case NET_SHUT:
		s->room = b->net_amount;
		break;
	case NET_BUFFER:
		if (s->pipe == NULL)
			s->pipe = malloc(PIPE_BYTES);
		must(s->pipe != NULL);
		s->room = PIPE_BYTES - (int64_t)s->piped;
		break;
	}
	if (b->net != NET_BUFFER)
		empty_pipe(s);
}

void
browser_net(int who, enum net mode, int amount)
{
	struct browser *b = &browsers[who];

	b->net = mode;
	b->net_amount = amount > 0 ? amount : 1;
	if (mode == NET_SHUT)
		b->net_amount = amount;
	apply_net(b);
}

void
browser_cut(int who, int after_bytes)
{
	struct browser	*b = &browsers[who];
	struct sock	*s = b->fd != -1 ? sock_of(b->fd) : NULL;

	if (s != NULL && b->kind == CHAN_STREAM)
		s->cut = after_bytes;
}

/* --- coming and going ------------------------------------------------------------------- */

static void
on_return(void *arg, int serial)
{
	struct browser *b = arg;

	if (serial == b->returns && b->fd == -1 && b->wanted)
		connect_now(b);
}

static void
come_back(struct browser *b, int64_t after_ms)
{
	b->garbage = false;
	world_at(world_us + after_ms * MS, on_return, b, ++b->returns);
}

static bool
sees(const struct browser *b, int seat)
{
	if (b->view.kind == VIEW_BLOCK)
		return (b->view.blocks[0] == BLOCK_ID(database_block_of(seat)));
	for (int i = 0; i < b->view.nblocks; i++)
		if (b->view.blocks[i] == BLOCK_ID(database_block_of(seat)))
			return (true);
	return (false);
}

static int
new_socket(struct browser *b)
{
	struct sock *s;

	do
		s = &socks[++next_fd % SOCKETS];
	while (s->fd >= FD_BASE);
	*s = (struct sock){ .fd = next_fd, .b = b, .cut = -1 };
	return (next_fd);
}

static void
hand_over(struct browser *b, enum chan_kind kind, const char *id)
{
	struct chan_handover h;

	memset(&h, 0, sizeof(h));
	h.key.match_id = MATCH;
	h.key.block_id = setup.match ? GROUP_WHOLE_MATCH : BLOCK_ID(0);
	h.view = b->view;
	h.accepted_ms = world_us / 1000;
	h.request_id = b->request_id;
	h.kind = (uint8_t)kind;
	h.sse = kind == CHAN_STREAM;
	if (b->garbage)
		h.resume = (struct stream_id){ 0, 1 };
	else if (stream_id_parse(id[0] != '\0' ? id : NULL, &h.resume) == -1)
		h.resume = (struct stream_id){ 0, 0 };
	if (kind == CHAN_SNAPSHOT && b->etag[0] != '\0')
		snprintf(h.if_none_match, sizeof(h.if_none_match), "%s", b->etag);
	b->kind = kind;
	b->fd = new_socket(b);
	b->came_us = b->bytes_us = b->progress_us = world_us;
	b->got = 0;
	b->adopted = false;
	b->http = b->header_lines = 0;
	b->new_etag[0] = '\0';
	b->head = b->refused = b->closing = b->ever_slow = b->updated_since_id = false;
	b->resumed = h.resume.epoch != 0;
	b->first = true;
	b->last_seat = 0;
	b->epoch = 0;
	b->version = 0;
	b->parse = P_RECORD;
	b->record_n = b->content = b->padding = b->line_n = 0;
	b->has_event = b->has_data = b->has_id = false;
	b->stale = false;
	apply_net(b);
	master_hand_over(&h, b->fd);
}

static void
connect_now(struct browser *b)
{
	b->retry_ms = 2000;
	hand_over(b, CHAN_STREAM, b->claim[0] != '\0' ? b->claim : b->id);
	b->claim[0] = '\0';
}

/* An id is good for the same blocks and for fewer. */
static bool
shows_less(const struct view *v, const struct view *than)
{
	int n = 0;

	if (v->kind != than->kind || (v->kind == VIEW_BLOCK && v->blocks[0] != than->blocks[0]))
		return (false);
	for (int i = 0; i < v->nblocks; i++)
		for (int k = 0; k < than->nblocks; k++)
			n += v->blocks[i] == than->blocks[k];
	return (n == v->nblocks);
}

enum { HOW_EARLY = 1, HOW_OTHER_REQUEST_ID = 2, HOW_GARBAGE = 4, HOW_FUTURE = 8, HOW_FORGETFUL = 16, HOW_ANY_ID = 32 };

void
browser_come(int who, int how, int blocks)
{
	struct browser	*b = &browsers[who];
	struct view	 before = b->view;

	if (b->fd != -1 || b->wanted)
		return;
	b->wanted = true;
	b->early = how & HOW_EARLY;
	b->request_id = how & HOW_OTHER_REQUEST_ID ? 2 : 1;
	b->garbage = (how & HOW_GARBAGE) != 0;
	memset(&b->view, 0, sizeof(b->view));
	b->view.kind = setup.match && blocks % 4 != 0 ? VIEW_MATCH : VIEW_BLOCK;
	for (int i = 0; i < setup.nblocks; i++)
		if (b->view.kind == VIEW_BLOCK ? i == (setup.match ? blocks / 4 % setup.nblocks : 0) : (blocks >> i) & 1)
			b->view.blocks[b->view.nblocks++] = BLOCK_ID(i);
	if (how & HOW_FORGETFUL || !shows_less(&b->view, &before)) {
		if (how & HOW_ANY_ID && !shows_less(&b->view, &b->id_view))	/* with the id of another view: it gets everything all the same */
			memcpy(b->claim, b->id, sizeof(b->claim));
		b->id[0] = '\0';
		b->shows = false;
		memset(b->status, NONE, sizeof(b->status));
		memset(b->index, 0, sizeof(b->index));
	}
	if (how & HOW_FUTURE && b->id[0] != '\0') {
		char *dash = strchr(b->id, '-');

		snprintf(dash, 12, "-99999999");
		b->shows = false;	/* its id is not what it shows */
	}
	connect_now(b);
}

void
browser_go(int who, int how)
{
	struct browser	*b = &browsers[who];
	struct sock	*s = b->fd != -1 ? sock_of(b->fd) : NULL;

	b->wanted = false;
	b->returns++;
	if (s == NULL)
		return;
	if (how % 3 == 0)
		s->peer_closed = true;
	else if (how % 3 == 1)
		s->reset = true;
	else
		s->aborts = true;
	ended(b);
}

void
browser_snapshot(int who, bool etag)
{
	struct browser *b = &browsers[who];

	if (b->fd != -1 || b->wanted)
		return;
	b->request_id = 1;
	b->garbage = false;
	b->view = (struct view){ .kind = VIEW_BLOCK, .nblocks = 1, .blocks = { BLOCK_ID(0) } };
	if (!etag)
		b->etag[0] = '\0';
	hand_over(b, CHAN_SNAPSHOT, "");
}

/* One that polls (SPEC 2b): its id and what it shows are its own from one answer to the next. */
void
browser_changes(int who)
{
	struct browser *b = &browsers[who];

	if (b->fd != -1 || b->wanted)
		return;
	b->request_id = 1;
	b->garbage = false;
	b->view = (struct view){ .kind = VIEW_BLOCK, .nblocks = 1, .blocks = { BLOCK_ID(0) } };
	hand_over(b, CHAN_CHANGES, b->id);
}

/* --- reading ------------------------------------------------------------------------------- */

static bool
eat(const char **p, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(*p, text, n) != 0)
		return (false);
	*p += n;
	return (true);
}

static bool
eat_number(const char **p, int64_t *v)
{
	char *end;

	if (**p < '0' || **p > '9')
		return (false);
	*v = strtoll(*p, &end, 10);
	*p = end;
	return (true);
}

static bool
eat_status(const char **p, uint8_t *st)
{
	for (int i = AVAILABLE; i <= OCCUPIED; i++)
		if (eat(p, status_names[i])) {
			*st = (uint8_t)i;
			return (eat(p, "\""));
		}
	return (false);
}

static int
seat_of(const struct browser *b, int64_t id)
{
	int seat = (int)(id - SEAT_ID(0));

	if (id < SEAT_ID(0) || seat >= setup.nseats)
		broken("bytes", "browser %d is told of a seat that nobody has: %lld", b->who, (long long)id);
	return (seat);
}

static _Noreturn void
odd(const struct browser *b, const char *what, const char *text)
{
	broken("bytes", "browser %d: %s: %.300s", b->who, what, text);
}

/* [{"id":101,"blockId":101,"status":"AVAILABLE"},…] into status; what is not there is NONE. */
static bool
eat_seats(struct browser *b, const char **p, bool blocks, uint8_t *status)
{
	int64_t id, block = 0, last = 0;
	uint8_t st;

	memset(status, NONE, MAX_SEATS);
	if (!eat(p, "["))
		return (false);
	while (!eat(p, "]")) {
		if ((last != 0 && !eat(p, ",")) || !eat(p, "{\"id\":") || !eat_number(p, &id) ||
		    (blocks && (!eat(p, ",\"blockId\":") || !eat_number(p, &block))) ||
		    !eat(p, ",\"status\":\"") || !eat_status(p, &st) || !eat(p, "}"))
			return (false);
		if (!blocks && id <= last)
			odd(b, "seats are not by ascending id", *p);
		if (blocks && block != BLOCK_ID(database_block_of(seat_of(b, id))))
			odd(b, "a seat of another block", *p);
		if (!sees(b, seat_of(b, id)))
			odd(b, "a seat of a block that was not asked for", *p);
		last = id;
		status[seat_of(b, id)] = st;
	}
	return (true);
}

static bool
eat_counts(struct browser *b, const char **p)
{
	int64_t block, n[3], last = 0;

	memset(b->counts, 0, sizeof(b->counts));
	if (!eat(p, "["))
		return (false);
	while (!eat(p, "]")) {
		if ((last != 0 && !eat(p, ",")) || !eat(p, "{\"id\":") || !eat_number(p, &block) ||
		    !eat(p, ",\"available\":") || !eat_number(p, &n[0]) || !eat(p, ",\"hold\":") ||
		    !eat_number(p, &n[1]) || !eat(p, ",\"occupied\":") || !eat_number(p, &n[2]) || !eat(p, "}"))
			return (false);
		if (block <= last || block >= BLOCK_ID(setup.nblocks))
			odd(b, "blocks are not by ascending id", *p);
		last = block;
		for (int i = 0; i < 3; i++)
			b->counts[block - BLOCK_ID(0)][i] = (int)n[i];
	}
	return (true);
}

static void
show(struct browser *b, int seat, uint8_t st)
{
	oracle_shown(b->who, b->ever_slow, seat, (enum status)st, &b->index[seat]);
	b->status[seat] = st;
}

static uint32_t
stream_epoch(const char *id)
{
	struct stream_id parsed;

	return (stream_id_parse(id, &parsed) == -1 ? 0 : parsed.epoch);
}

static void
on_init(struct browser *b, const char *p, uint32_t epoch)
{
	uint8_t		 status[MAX_SEATS];
	const char	*all = p;
	bool		 match = b->view.kind == VIEW_MATCH;

	if (!eat(&p, "{\"status\":200,\"data\":{") ||
	    (match && (!eat(&p, "\"blocks\":") || !eat_counts(b, &p) || !eat(&p, ","))) ||
	    !eat(&p, "\"seats\":") || !eat_seats(b, &p, match, status) || strcmp(p, "}}") != 0)
		odd(b, "an init", all);
	if (b->first && b->resumed && !oracle_layout_moved() && b->shows && b->id_us != 0 &&
	    stream_epoch(b->id) == epoch)
		broken("resume", "browser %d came back with an id of this loop (%s) and gets everything", b->who, b->id);
	for (int i = 0; i < setup.nseats; i++)
		if (status[i] != NONE)
			show(b, i, status[i]);
		else
			b->status[i] = NONE;
	b->shows = b->counted = true;
	b->last_seat = 0;
	tally->inits++;
}

static void
on_update(struct browser *b, const char *p)
{
	const char	*all = p;
	int64_t		 id, block;
	uint8_t		 st;
	bool		 match = b->view.kind == VIEW_MATCH;

	if (!eat(&p, "{\"status\":200,\"data\":{\"seatId\":") || !eat_number(&p, &id) ||
	    (match && (!eat(&p, ",\"blockId\":") || !eat_number(&p, &block))) ||
	    !eat(&p, ",\"status\":\"") || !eat_status(&p, &st) || strcmp(p, "}}") != 0)
		odd(b, "an update", all);
	if (!b->shows)
		broken("order", "browser %d gets an update and was never given everything", b->who);
	if (!sees(b, seat_of(b, id)))
		odd(b, "an update of a block that was not asked for", all);
	if (!b->ever_slow && !match && id <= b->last_seat)
		broken("order", "browser %d: the updates of one poll are not by ascending id: %lld after %lld", b->who,
		    (long long)id, (long long)b->last_seat);
	b->last_seat = id;
	b->updated_since_id = true;
	show(b, seat_of(b, id), st);
}

static void
on_count(struct browser *b, const char *p)
{
	const char	*all = p;
	int64_t		 block, n[3];

	if (b->view.kind != VIEW_MATCH || !eat(&p, "{\"status\":200,\"data\":{\"blockId\":") || !eat_number(&p, &block) ||
	    !eat(&p, ",\"available\":") || !eat_number(&p, &n[0]) || !eat(&p, ",\"hold\":") || !eat_number(&p, &n[1]) ||
	    !eat(&p, ",\"occupied\":") || !eat_number(&p, &n[2]) || strcmp(p, "}}") != 0 ||
	    block < BLOCK_ID(0) || block >= BLOCK_ID(setup.nblocks))
		odd(b, "a count", all);
	for (int i = 0; i < 3; i++)
		b->counts[block - BLOCK_ID(0)][i] = (int)n[i];
	b->updated_since_id = true;
	tally->counts++;
}

static void
on_mark(struct browser *b, const char *name, const char *p)
{
	const char *all = p;

	if (!eat(&p, strcmp(name, "stale") == 0 ? "{\"status\":503,\"data\":{\"asOf\":\"20" :
	    "{\"status\":200,\"data\":{\"asOf\":\"20") || strlen(p) != strlen("26-11-22T12:00:00.123Z\"}}") ||
	    strcmp(p + strlen("26-11-22T12:00:00.123Z"), "\"}}") != 0)
		odd(b, name, all);
	if (strcmp(name, "stale") == 0) {
		if (b->stale)
			broken("stale", "browser %d is told stale twice", b->who);
		b->stale = true;
	} else if (strcmp(name, "fresh") == 0) {
		if (!b->stale)
			broken("stale", "browser %d is told fresh and was not told stale", b->who);
		b->stale = false;
	}
}

static void
take_id(struct browser *b, const char *id)
{
	struct stream_id parsed;

	if (stream_id_parse(id, &parsed) == -1)
		odd(b, "an id", id);
	if (b->epoch != 0 && (parsed.epoch != b->epoch || parsed.version <= b->version))
		broken("order", "browser %d: the id %s after %08" PRIx32 "-%" PRIu64, b->who, id, b->epoch, b->version);
	b->epoch = parsed.epoch;
	b->version = parsed.version;
	snprintf(b->id, sizeof(b->id), "%s", id);
	b->id_view = b->view;
	b->id_us = world_us;
	b->last_seat = 0;
	b->updated_since_id = false;
}

static void
dispatch(struct browser *b)
{
	const char *name = b->has_event ? b->event : "message";

	if (b->has_data) {
		struct stream_id parsed = { 0, 0 };

		if (verbose)
			say("browser %d <- %s %.100s%s%s", b->who, name, b->data, b->has_id ? " id " : "", b->has_id ? b->event_id : "");
		tally->events++;
		if (strcmp(name, "init") == 0) {
			if (!b->has_id || stream_id_parse(b->event_id, &parsed) == -1)
				odd(b, "an init without an id", b->data);
			on_init(b, b->data, parsed.epoch);
		} else if (strcmp(name, "update") == 0)
			on_update(b, b->data);
		else if (strcmp(name, "count") == 0)
			on_count(b, b->data);
		else if (strcmp(name, "beat") == 0 || strcmp(name, "stale") == 0 || strcmp(name, "fresh") == 0)
			on_mark(b, name, b->data);
		else if (strcmp(name, "busy") == 0) {
			if (!b->first)
				broken("order", "browser %d is told busy in the middle of its stream", b->who);
			b->refused = true;
		} else
			odd(b, "an event that nobody knows", name);
		b->first = false;
	} else if (b->has_event)
		odd(b, "an event without data", name);
	if (b->has_id && !b->early)
		take_id(b, b->event_id);
	b->has_event = b->has_data = b->has_id = false;
}

static void
keep(char **where, const char *text)
{
	free(*where);
	*where = strdup(text);
	must(*where != NULL);
}

/* One line of the stream. */
static void
on_line(struct browser *b, const char *line)
{
	if (line[0] == '\0')
		dispatch(b);
	else if (strncmp(line, "event: ", 7) == 0 && !b->has_event) {
		keep(&b->event, line + 7);
		b->has_event = true;
	} else if (strncmp(line, "data: ", 6) == 0 && !b->has_data) {
		keep(&b->data, line + 6);
		b->has_data = true;
	} else if (strncmp(line, "id: ", 4) == 0 && !b->has_id) {
		snprintf(b->event_id, sizeof(b->event_id), "%s", line + 4);
		b->has_id = true;
		/* One that takes it now shows the event now: that the last byte of a block could be cut off is its own affair. */
		if (b->early && b->has_data)
			dispatch(b);
		if (b->early)
			take_id(b, b->event_id);
	} else if (strncmp(line, "retry: ", 7) == 0) {
		b->retry_ms = atoll(line + 7);
		if (!b->has_event && (b->retry_ms < 2000 || b->retry_ms > 120000))
			odd(b, "a retry", line);
	} else
		odd(b, "a line", line);
}

/* A line of the response header. */
static void
on_header(struct browser *b, const char *line)
{
	static const char *const want[] = { "Status: 200 OK", "Content-Type: text/event-stream; charset=utf-8" };

	if (line[0] == '\0') {
		b->head = true;
		return;
	}
	if (b->kind == CHAN_STREAM && b->header_lines < 2 && strcmp(line, want[b->header_lines]) != 0)
		broken("answered", "browser %d: its stream is answered with '%s'", b->who, line);
	b->header_lines++;
	if (strncmp(line, "Status: ", 8) == 0)
		b->http = atoi(line + 8);
	if (strncmp(line, "ETag: ", 6) == 0)
		snprintf(b->new_etag, sizeof(b->new_etag), "%s", line + 6);
}

static void
take_text(struct browser *b, const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int fd = b->fd;

		if (p[i] != '\n' || (b->head && b->kind != CHAN_STREAM)) {
			if (b->line_n + 1 >= LINE_MAX_BYTES)
				odd(b, "a line without end", b->line);
			b->line[b->line_n++] = (char)p[i];
			continue;
		}
		if (!b->head && b->line_n > 0 && b->line[b->line_n - 1] == '\r')
			b->line_n--;
		b->line[b->line_n] = '\0';
		b->line_n = 0;
		if (b->head)
			on_line(b, b->line);
		else
			on_header(b, b->line);
		if (b->fd != fd)
			return;
	}
}

/* SPEC 2b: {"id":"5f3a9c1e-42","asOf":"…Z","seats":[…]} and "full":true where it is all of them. */
static void
on_changes(struct browser *b, const char *body)
{
	const char	*p = body;
	uint8_t		 status[MAX_SEATS];
	char		 id[STREAM_ID_BYTES];
	size_t		 n;
	bool		 full;

	if (!eat(&p, "{\"status\":200,\"data\":{\"id\":\"") || (n = strcspn(p, "\"")) >= sizeof(id))
		odd(b, "changes", body);
	snprintf(id, sizeof(id), "%.*s", (int)n, p);
	p += n;
	if (!eat(&p, "\",\"asOf\":\"20") || (p += strcspn(p, "\""), !eat(&p, "\",\"seats\":")) || !eat_seats(b, &p, false, status))
		odd(b, "changes", body);
	full = eat(&p, ",\"full\":true");
	if (strcmp(p, "}}") != 0)
		odd(b, "changes", body);
	if (!full && b->id[0] == '\0')
		broken("changes", "browser %d asked for everything and gets changes", b->who);
	for (int i = 0; i < setup.nseats; i++)
		if (status[i] != NONE)
			show(b, i, status[i]);
		else if (full)
			b->status[i] = NONE;
	take_id(b, id);
	b->shows = true;
	tally->changes++;
	memcpy(b->etag_status, b->status, sizeof(b->etag_status));
}

/* An answer that is no stream: what the last poll said, or that it is what this browser has. */
static void
on_answer(struct browser *b, const char *body)
{
	const char	*p = body;

	if (b->http == 503)
		return;
	if (b->kind == CHAN_CHANGES && b->http == 200)
		on_changes(b, body);
	else if (b->http == 304) {
		if (b->etag[0] == '\0')
			odd(b, "304 without an ETag asked for", body);
		tally->etags++;
	} else if (b->http != 200 || !eat(&p, "{\"status\":200,\"data\":{\"seats\":") ||
	    !eat_seats(b, &p, false, b->etag_status) || strcmp(p, "}}") != 0)
		odd(b, "a snapshot", body);
	for (int i = 0; i < setup.nseats; i++)
		if (sees(b, i) && world_us > stalled_us + SECOND && !oracle_matches(i, (enum status)b->etag_status[i]))
			broken("snapshot", "browser %d is told %s of seat number %d (%d); the database said %s", b->who,
			    status_names[b->etag_status[i]], i, b->http, status_names[oracle_wanted(i)]);
	tally->snapshots++;
	if (b->http == 200)
		snprintf(b->etag, sizeof(b->etag), "%s", b->new_etag);
}

/* The end of the answer, as FastCGI has it. */
static void
on_end(struct browser *b)
{
	b->parse = P_ENDED;
	if (b->kind == CHAN_STREAM) {
		if (!b->head)
			broken("answered", "browser %d: its stream ends without an answer", b->who);
		if (!b->refused && !master_drains() && !b->ever_slow)
			broken("closed", "browser %d: its stream ends for no reason", b->who);
		say("browser %d: its stream ends%s", b->who, b->refused ? ": busy" : "");
		return;
	}
	b->line[b->line_n] = '\0';
	on_answer(b, b->line);
}

static void
take(struct browser *b, const unsigned char *p, size_t n)
{
	int fd = b->fd;

	b->bytes_us = world_us;
	b->got += n;
	while (n > 0) {
		size_t k;

		if (b->parse == P_ENDED)
			broken("bytes", "browser %d: bytes after the end of the answer", b->who);
		if (b->parse == P_RECORD) {
			b->record[b->record_n++] = *p++;
			n--;
			if (b->record_n < 8)
				continue;
			b->record_n = 0;
			b->type = b->record[1];
			b->content = (size_t)b->record[4] << 8 | b->record[5];
			b->padding = b->record[6];
			if (b->record[0] != 1 || (b->record[2] << 8 | b->record[3]) != b->request_id ||
			    (b->type != 6 && b->type != 3))
				broken("bytes", "browser %d: a FastCGI record of version %d, type %d, request %d", b->who,
				    b->record[0], b->type, b->record[2] << 8 | b->record[3]);
			if (b->type == 6 && b->content == 0) {
				if (b->closing)
					broken("bytes", "browser %d: STDOUT ends twice", b->who);
				b->closing = true;
			} else if (b->type == 6 && b->closing)
				broken("bytes", "browser %d: STDOUT after its end", b->who);
			else if (b->type == 3 && (!b->closing || b->content != 8))
				broken("bytes", "browser %d: END_REQUEST before the end of STDOUT", b->who);
			b->parse = b->content + b->padding > 0 ? P_CONTENT : P_RECORD;
			continue;
		}
		k = b->content > 0 ? b->content : b->padding;
		if (k > n)
			k = n;
		if (b->content > 0) {
			if (b->type == 6) {
				take_text(b, p, k);
				if (b->fd != fd)
					return;
			}
			b->content -= k;
		} else
			b->padding -= k;
		p += k;
		n -= k;
		if (b->content + b->padding == 0) {
			b->parse = P_RECORD;
			if (b->type == 3)
				on_end(b);
		}
	}
}

/* --- what the oracle asks ----------------------------------------------------------------------- */

/* It has had the chance to take everything. */
static bool
is_settled(const struct browser *b)
{
	struct sock *s = b->fd != -1 ? sock_of(b->fd) : NULL;

	return (s != NULL && b->kind == CHAN_STREAM && b->wanted && b->net == NET_OPEN && s->cut == -1 && !s->reset &&
	    b->adopted && b->opened_turn < world_turns && b->parse != P_ENDED && !b->refused);
}

static void
compare_counts(const struct browser *b, const char *rule)
{
	for (int block = 0; block < setup.nblocks; block++) {
		int want[3] = { 0, 0, 0 };
		bool unsure = false;

		for (int i = block; i < setup.nseats; i += setup.nblocks) {
			if (oracle_unsure(i))
				unsure = true;
			if (oracle_wanted(i) < NONE)
				want[oracle_wanted(i)]++;
		}
		if (!unsure && memcmp(want, b->counts[block], sizeof(want)) != 0)
			broken(rule, "browser %d shows %d available, %d held, %d occupied of block %d; there are %d, %d, %d", b->who,
			    b->counts[block][0], b->counts[block][1], b->counts[block][2], block, want[0], want[1], want[2]);
	}
}

static void
compare(const struct browser *b, const char *rule)
{
	if (!b->shows) {
		broken(rule, "browser %d has an open stream and was shown nothing", b->who);
	}
	tally->checks++;
	for (int i = 0; i < setup.nseats; i++)
		if (sees(b, i) && !oracle_matches(i, (enum status)b->status[i]))
			broken(rule, "browser %d shows seat number %d %s; the database said %s", b->who, i,
			    status_names[b->status[i]], status_names[oracle_wanted(i)]);
	if (b->view.kind == VIEW_MATCH)
		compare_counts(b, rule);
}

void
browsers_compare(const char *rule)
{
	for (int i = 0; i < BROWSERS; i++)
		if (is_settled(&browsers[i]) && browsers[i].head)
			compare(&browsers[i], rule);
}

/* A good poll has been taken in, and all that comes of it has been sent. */
void
browsers_polled(void)
{
	for (int i = 0; i < BROWSERS; i++) {
		struct browser *b = &browsers[i];

		if (!is_settled(b) || master_drains())
			continue;
		if (!b->head)
			broken("waiting", "browser %d: a good poll is in, and it has no answer", b->who);
		compare(b, "after a poll");
		if (b->stale)
			broken("stale", "browser %d was told stale; a good poll is in, and it was not told fresh", b->who);
		if (b->updated_since_id && !b->ever_slow)
			broken("id", "browser %d has all updates of a poll and no id", b->who);
	}
}

int
browsers_open(void)
{
	int n = 0;

	for (int i = 0; i < BROWSERS; i++)
		n += browsers[i].fd != -1 && browsers[i].kind == CHAN_STREAM;
	return (n);
}

void
browsers_sweep(void)
{
	int64_t stale_ms = 2 * setup.opts.poll_interval_ms + 1000 > 3000 ? 2 * setup.opts.poll_interval_ms + 1000 : 3000;

	for (int i = 0; i < BROWSERS; i++) {
		struct browser	*b = &browsers[i];
		int64_t		 since = oracle_last_good_us() > b->came_us ? oracle_last_good_us() : b->came_us;

		if (b->fd == -1 || b->kind != CHAN_STREAM || world_us < stalled_us + 2 * SECOND || master_drains() || !loop_lives)
			continue;
		if (b->net == NET_SHUT &&
		    world_us - b->progress_us > (setup.opts.stall_timeout_ms + 1500) * MS && b->got > 0)
			broken("stall", "browser %d takes nothing for %lld ms and is not closed", b->who,
			    (long long)(world_us - b->progress_us) / 1000);
		if (!is_settled(b) || world_us - b->opened_us < SECOND)
			continue;
		if (!b->head && world_us - b->came_us > BUSY_AFTER_US + SECOND)
			broken("waiting", "browser %d waits for an answer since %lld ms", b->who,
			    (long long)(world_us - b->came_us) / 1000);
		if (b->head && world_us - b->bytes_us > (setup.opts.heartbeat_ms + 1500) * MS)
			broken("beat", "browser %d hears nothing for %lld ms", b->who, (long long)(world_us - b->bytes_us) / 1000);
		if (b->head && !b->stale && world_us - since > (stale_ms + 1000) * MS && master_loop_age_us() > (stale_ms + 1000) * MS)
			broken("stale", "browser %d is not told that there was no good poll for %lld ms", b->who,
			    (long long)(world_us - since) / 1000);
	}
}

void
browser_start(void)
{
	for (int i = 0; i < BROWSERS; i++) {
		browsers[i].who = i;
		browsers[i].fd = -1;
		browsers[i].request_id = 1;
		memset(browsers[i].status, NONE, sizeof(browsers[i].status));
		browsers[i].line = malloc(LINE_MAX_BYTES);
		must(browsers[i].line != NULL);
	}
	for (int i = 0; i < SOCKETS; i++)
		socks[i].fd = -1;
}

void
browser_heal(void)
{
	for (int i = 0; i < BROWSERS; i++) {
		struct sock *s = browsers[i].fd != -1 ? sock_of(browsers[i].fd) : NULL;

		browser_net(i, NET_OPEN, 0);
		if (s != NULL && s->b != NULL)
			s->cut = -1;
	}
}

/* All who wanted to see are connected, and show what the database has. */
void
browser_check_all(void)
{
	for (int i = 0; i < BROWSERS; i++) {
		struct browser *b = &browsers[i];

		if (!b->wanted)
			continue;
		if (b->fd == -1 || !b->head)
			broken("converge", "browser %d is not connected long after everything was mended", b->who);
		for (int k = 0; k < setup.nseats; k++)
			if (sees(b, k) && b->status[k] != truth_now(k) && !oracle_unsure(k))
				broken("converge", "browser %d shows seat number %d %s in the end; it is %s", b->who, k,
				    status_names[b->status[k]], status_names[truth_now(k)]);
	}
}
