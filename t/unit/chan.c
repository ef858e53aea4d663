/* SPDX-License-Identifier: ISC */
/* chan: messages arrive whole and checked, a descriptor moves, a full queue says so. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/must.h"
#include "shared/chan.h"
#include "shared/refusal.h"
#include "unit.h"

struct seen {
	int			 messages;
	int			 closed;
	const char		*why;
	enum chan_type		 type;
	union chan_payload	 payload;
	int			 fd;
	int64_t			 spread_ms[3];	/* of the first messages, if they are DRAIN */
};

static const struct chan_handover good = { .key = { 1, 101 }, .view = { VIEW_BLOCK, 1, { 101 } }, .request_id = 7,
    .accepted_ms = 1 };
static struct ev_loop	*ev;
static struct chan	 master, worker;
static struct seen	 at_master, at_worker;

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	struct seen *s = c->arg;

	if (type == CHAN_DRAIN && s->messages < (int)nitems(s->spread_ms))
		s->spread_ms[s->messages] = p->drain.spread_ms;
	s->messages++;
	s->type = type;
	s->payload = *p;
	fd_close(&s->fd);
	s->fd = fd;
}

static void
on_closed(struct chan *c, const char *why)
{
	struct seen *s = c->arg;

	s->closed++;
	s->why = why;
	chan_fini(c);
}

static void
setup(void)
{
	int fds[2];

	memset(&at_master, 0, sizeof(at_master));
	memset(&at_worker, 0, sizeof(at_worker));
	at_master.fd = at_worker.fd = -1;
	ev = ev_loop_new(EVFLAG_AUTO);
	ck_assert_int_eq(chan_pair(fds), 0);
	chan_init(&master, ev, fds[0], CHAN_MASTER, CHAN_WORKER, 4, on_message, on_closed, &at_master);
	chan_init(&worker, ev, fds[1], CHAN_WORKER, CHAN_MASTER, 4, on_message, on_closed, &at_worker);
}

static void
teardown(void)
{
	chan_fini(&master);
	chan_fini(&worker);
	fd_close(&at_master.fd);
	fd_close(&at_worker.fd);
	ev_loop_destroy(ev);
}

static void
turn(int times)
{
	while (times-- > 0)
		ev_run(ev, EVRUN_NOWAIT);
}

START_TEST(a_descriptor_arrives_as_the_same_file_and_leaves_the_sender)
{
	struct chan_handover	h = good;
	struct stat		sent, got;
	int			pipe_fds[2];

	ck_assert_int_eq(pipe(pipe_fds), 0);
	ck_assert_int_eq(fstat(pipe_fds[0], &sent), 0);
	ck_assert_int_eq(chan_send(&worker, CHAN_HANDOVER, &h, &pipe_fds[0]), 0);
	ck_assert_int_eq(pipe_fds[0], -1);
	turn(2);
	ck_assert_int_eq(at_master.messages, 1);
	ck_assert_int_eq(at_master.type, CHAN_HANDOVER);
	ck_assert_int_eq(at_master.payload.handover.key.block_id, 101);
	ck_assert_int_ne(at_master.fd, -1);
	ck_assert_int_eq(fstat(at_master.fd, &got), 0);
	ck_assert(sent.st_ino == got.st_ino && sent.st_dev == got.st_dev);
	/* nobody else holds the reading end: closing it breaks the pipe */
	fd_close(&at_master.fd);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(write(pipe_fds[1], "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	fd_close(&pipe_fds[1]);
}
END_TEST

START_TEST(messages_stay_apart_and_in_order)
{
	struct chan_drain d;

	for (d.spread_ms = 1; d.spread_ms <= 3; d.spread_ms++)
		ck_assert_int_eq(chan_send(&master, CHAN_DRAIN, &d, NULL), 0);
	turn(1);
	ck_assert_int_eq(at_worker.messages, 3);
	ck_assert_int_eq(at_worker.spread_ms[0], 1);
	ck_assert_int_eq(at_worker.spread_ms[1], 2);
	ck_assert_int_eq(at_worker.spread_ms[2], 3);
}
END_TEST

/* Sent at once or after a wait in the queue: the sender has its own, and nobody has more than he was given. */
START_TEST(a_shared_descriptor_stays_the_senders)
{
	struct chan_handover	h = good;
	int			pipe_fds[2], sent = 0;

	ck_assert_int_eq(pipe(pipe_fds), 0);
	while (worker.queued < 4) {
		ck_assert_int_eq(chan_send_shared(&worker, CHAN_HANDOVER, &h, pipe_fds[0]), 0);
		ck_assert_int_lt(++sent, 100000);
	}
	ck_assert_int_eq(chan_send_shared(&worker, CHAN_HANDOVER, &h, pipe_fds[0]), -1);
	ck_assert_int_eq(errno, ENOBUFS);
	turn(sent + 8);
	ck_assert_int_eq(at_master.messages, sent);
	fd_close(&at_master.fd);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(write(pipe_fds[1], "x", 1), 1);
	fd_close(&pipe_fds[0]);
	ck_assert_int_eq(write(pipe_fds[1], "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	fd_close(&pipe_fds[1]);
}
END_TEST

/* Fill the socket and the queue; the descriptor of what does not fit stays ours. */
START_TEST(a_full_queue_says_so_and_takes_nothing)
{
	struct chan_handover	h = good;
	int			fd, rc, sent = 0;

	for (;;) {
		ck_assert_int_ne(fd = dup(0), -1);
		if ((rc = chan_send(&worker, CHAN_HANDOVER, &h, &fd)) == -1)
			break;
		ck_assert_int_lt(++sent, 100000);
	}
	ck_assert_int_eq(errno, ENOBUFS);
	ck_assert_int_ne(fd, -1);
	fd_close(&fd);
	ck_assert_uint_eq(worker.queued, 4);
	turn(sent + 8);
	ck_assert_int_eq(at_master.messages, sent);	/* the queued ones too */
	ck_assert_uint_eq(worker.queued, 0);
}
END_TEST

START_TEST(the_end_of_the_peer_is_told_once)
{
	chan_fini(&worker);
	turn(3);
	ck_assert_int_eq(at_master.closed, 1);
	ck_assert_ptr_null(at_master.why);
	ck_assert_int_eq(chan_send(&master, CHAN_STOP, NULL, NULL), -1);
	ck_assert_int_eq(errno, EPIPE);
}
END_TEST

static const struct {
	const char	*says;
	uint32_t	 header[2];
	size_t		 bytes;
	const char	*why;
} broken[] = {
	{ "a type nobody knows", { CHAN__MAX, 1 }, 9, "unknown message" },
	{ "a message for another process", { CHAN_ADOPT, 1 }, 9, "message from the wrong process" },
	{ "a payload that is too short", { CHAN_READY, 1 }, 8, "message of the wrong length" },
	{ "a length that lies", { CHAN_READY, 5 }, 9, "message of the wrong length" },
	{ "a missing descriptor", { CHAN_HANDOVER, sizeof(struct chan_handover) },
	    8 + sizeof(struct chan_handover), "message with the wrong number of descriptors" },
};

START_TEST(a_peer_that_breaks_the_table_is_closed)
{
	char bytes[sizeof(struct chan_handover) + 16] = "";

	memcpy(bytes, broken[_i].header, sizeof(broken[_i].header));
	ck_assert_int_eq(send(worker.fd, bytes, broken[_i].bytes, 0), (ssize_t)broken[_i].bytes);
	turn(2);
	ck_assert_msg(at_master.closed == 1, "%s", broken[_i].says);
	ck_assert_str_eq(at_master.why, broken[_i].why);
	ck_assert_int_eq(at_master.messages, 0);
}
END_TEST

#define FIELD(f, v)	offsetof(struct chan_handover, f), sizeof(((struct chan_handover *)0)->f), v
static const struct {
	const char	*says;
	size_t		 at, size;
	const char	*value;		/* NULL: no end to the text */
} unsound[] = {
	{ "no match has that id", FIELD(key.match_id, "\0\0\0\0\0\0\0\0") },
	{ "nor a block", FIELD(key.block_id, "\377\377\377\377\377\377\377\377") },
	{ "an ETag without an end", FIELD(if_none_match, NULL) },
	{ "an origin without an end", FIELD(origin, NULL) },
	{ "a client without an end", FIELD(client, NULL) },
	{ "a kind that is none", FIELD(kind, "\3") },
	{ "a view that is none", FIELD(view.kind, "\2") },
	{ "more blocks than a view has", FIELD(view.nblocks, "\21") },
	{ "a block's view without its block", FIELD(view.nblocks, "\0") },
	{ "a view of another block", FIELD(view.blocks[0], "\146\0\0\0\0\0\0\0") },
	{ "blocks behind the last", FIELD(view.blocks[1], "\146\0\0\0\0\0\0\0") },
	{ "a match's view in a block's group", FIELD(view.kind, "\1") },
	{ "request id 0 is the connection's own", FIELD(request_id, "\0\0") },
	{ "a flag that is neither", FIELD(sse, "\2") },
};

static void
spoil(struct chan_handover *h, int i)
{
	*h = good;
	if (unsound[i].value != NULL)
		memcpy((char *)h + unsound[i].at, unsound[i].value, unsound[i].size);
	else
		memset((char *)h + unsound[i].at, 'A', unsound[i].size);
}

START_TEST(a_hand_over_that_no_request_makes_closes_the_channel)
{
	struct {
		uint32_t		header[2];
		struct chan_handover	h;
	} message = { { CHAN_HANDOVER, sizeof(struct chan_handover) }, good };
	union {
		struct cmsghdr	align;
		char		bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec	 iov = { &message, 8 + sizeof(message.h) };
	struct msghdr	 msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr	*cm = CMSG_FIRSTHDR(&msg);
	int		 zero = 0;

	ck_assert_uint_eq(offsetof(__typeof__(message), h), 8);
	memset(&control, 0, sizeof(control));
	spoil(&message.h, _i);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &zero, sizeof(int));
	ck_assert_int_ne(sendmsg(worker.fd, &msg, 0), -1);
	turn(2);
	ck_assert_msg(at_master.messages == 0 && at_master.closed == 1, "%s: came through", unsound[_i].says);
	ck_assert_str_eq(at_master.why, "message with a value that can't be");
}
END_TEST

START_TEST(and_is_not_sent)
{
	struct chan_handover	h;
	int			fd = dup(0);

	spoil(&h, _i);
	ck_assert_int_eq(chan_send(&worker, CHAN_HANDOVER, &h, &fd), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_ne(fd, -1);
	fd_close(&fd);
	turn(2);
	ck_assert_int_eq(at_master.closed, 0);
}
END_TEST

/* What other messages say is looked at, too. */
START_TEST(a_value_that_cannot_be_is_not_sent)
{
	struct chan_wrote	wrote = { { 0, 101 } };
	struct chan_drain	drain = { -1 };
	struct chan_refusal	refusal = { good, REFUSAL__MAX };
	int			fd = dup(0);

	ck_assert_int_eq(chan_send(&worker, CHAN_WROTE, &wrote, NULL), -1);
	wrote.key = (struct group_key){ 1, -1 };
	ck_assert_int_eq(chan_send(&worker, CHAN_WROTE, &wrote, NULL), -1);
	ck_assert_int_eq(chan_send(&master, CHAN_DRAIN, &drain, NULL), -1);
	ck_assert_int_eq(chan_send(&master, CHAN_REFUSE, &refusal, &fd), -1);
	ck_assert_int_eq(errno, EINVAL);
	refusal = (struct chan_refusal){ good, 0 };
	refusal.handover.request_id = 0;
	ck_assert_int_eq(chan_send(&master, CHAN_REFUSE, &refusal, &fd), -1);
	fd_close(&fd);
	turn(2);
	ck_assert_int_eq(at_master.messages + at_worker.messages, 0);
	wrote.key = (struct group_key){ 1, 0 };
	ck_assert_int_eq(chan_send(&worker, CHAN_WROTE, &wrote, NULL), 0);
	turn(2);
	ck_assert_int_eq(at_master.messages, 1);
}
END_TEST

/* Descriptors of others, and none is kept. */
START_TEST(what_is_too_long_or_has_two_descriptors_closes_the_channel)
{
	union {
		struct cmsghdr	align;
		char		bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	static char	 bytes[sizeof(union chan_payload) + 64];
	const uint32_t	 header[2] = { CHAN_HANDOVER, sizeof(struct chan_handover) };
	struct iovec	 iov = { bytes, _i == 0 ? sizeof(bytes) : 8 + sizeof(struct chan_handover) };
	struct msghdr	 msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int		 pipe_fds[2], two[2];

	memcpy(bytes, header, sizeof(header));
	memcpy(bytes + 8, &good, sizeof(good));
	ck_assert_int_eq(pipe(pipe_fds), 0);
	two[0] = two[1] = pipe_fds[0];
	if (_i == 1) {
		struct cmsghdr *cm;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(two));
		memcpy(CMSG_DATA(cm), two, sizeof(two));
	}
	ck_assert_int_ne(sendmsg(worker.fd, &msg, 0), -1);
	turn(2);
	ck_assert_int_eq(at_master.closed, 1);
	ck_assert_str_eq(at_master.why, _i == 0 ? "message of the wrong length" : "message with the wrong number of descriptors");
	fd_close(&pipe_fds[0]);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_msg(write(pipe_fds[1], "x", 1) == -1 && errno == EPIPE, "a descriptor was kept");
	fd_close(&pipe_fds[1]);
}
END_TEST

START_TEST(a_match_s_group_shows_a_block_or_some_of_its_blocks)
{
	static const struct view views[] = { { VIEW_BLOCK, 1, { 7 } }, { VIEW_MATCH, 0, { 0 } }, { VIEW_MATCH, 2, { 7, 9 } } };
	struct chan_handover	h = good;
	size_t			i;
	int			fd;

	h.key.block_id = GROUP_WHOLE_MATCH;
	for (i = 0; i < nitems(views); i++) {
		fd = dup(0);
		h.view = views[i];
		ck_assert_int_eq(chan_send(&worker, CHAN_HANDOVER, &h, &fd), 0);
		turn(2);
		ck_assert_int_eq(at_master.messages, (int)i + 1);
	}
	h.view = (struct view){ VIEW_MATCH, 2, { 9, 7 } };
	fd = dup(0);
	ck_assert_int_eq(chan_send(&worker, CHAN_HANDOVER, &h, &fd), -1);
	fd_close(&fd);
}
END_TEST

/* In the place of libc's: fail when a test wants it to; EINTR once. */
static int send_errno, recv_errno;

ssize_t
sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (send_errno == 0)
		return (syscall(SYS_sendmsg, fd, msg, flags));
	errno = send_errno;
	if (send_errno == EINTR)
		send_errno = 0;
	return (-1);
}

ssize_t
recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (recv_errno == 0)
		return (syscall(SYS_recvmsg, fd, msg, flags));
	errno = recv_errno;
	return (-1);
}

static void
wait_for_message(void)
{
	int i;

	for (i = 0; i < 1000 && at_worker.messages == 0; i++) {
		usleep(1000);
		turn(1);
	}
}

START_TEST(without_memory_it_is_later)
{
	struct chan_drain	d = { 1 };
	int			i;

	send_errno = recv_errno = _i == 0 ? ENOMEM : ENOBUFS;
	ck_assert_int_eq(chan_send(&master, CHAN_DRAIN, &d, NULL), 0);
	turn(5);
	send_errno = 0;
	for (i = 0; i < 1000 && master.queued != 0; i++) {
		usleep(1000);
		turn(1);
	}
	turn(5);
	ck_assert_int_eq(at_worker.messages, 0);
	recv_errno = 0;
	wait_for_message();
	ck_assert_int_eq(at_worker.messages, 1);
	ck_assert_int_eq(at_worker.closed + at_master.closed, 0);
}
END_TEST

/* What libev does when epoll_ctl fails: the watcher is stopped, and told. */
START_TEST(a_channel_that_can_t_be_watched_is_watched_later)
{
	struct chan_drain d = { 1 };

	ev_io_stop(ev, &worker.in);
	ev_feed_event(ev, &worker.in, EV_ERROR | EV_READ | EV_WRITE);
	turn(1);
	ck_assert_int_eq(chan_send(&master, CHAN_DRAIN, &d, NULL), 0);
	turn(1);
	ck_assert_int_eq(at_worker.messages, 0);
	wait_for_message();
	ck_assert_int_eq(at_worker.messages, 1);
	ck_assert_int_eq(at_worker.closed + at_master.closed, 0);
}
END_TEST

START_TEST(a_signal_is_no_failure)
{
	struct chan_drain d = { 1 };

	send_errno = EINTR;
	ck_assert_int_eq(chan_send(&master, CHAN_DRAIN, &d, NULL), 0);
	recv_errno = EINTR;
	turn(2);
	ck_assert_int_eq(at_worker.messages + at_worker.closed, 0);
	recv_errno = 0;
	turn(2);
	ck_assert_int_eq(at_worker.messages, 1);
}
END_TEST

START_TEST(a_channel_that_breaks_is_closed_and_says_why)
{
	struct chan_drain d = { 1 };

	send_errno = EPIPE;
	ck_assert_int_eq(chan_send(&master, CHAN_DRAIN, &d, NULL), -1);
	ck_assert_int_eq(errno, EPIPE);
	send_errno = EAGAIN;
	ck_assert_int_eq(chan_send(&master, CHAN_DRAIN, &d, NULL), 0);
	ck_assert_uint_eq(master.queued, 1);
	send_errno = EPIPE;			/* who reads will hear of it */
	turn(2);
	ck_assert_int_eq(at_master.closed, 0);
	send_errno = 0;
	recv_errno = _i == 0 ? ECONNRESET : EIO;
	ck_assert_int_eq(chan_send(&worker, CHAN_READY, NULL, NULL), 0);
	turn(2);
	recv_errno = 0;
	ck_assert_int_eq(at_master.closed, 1);
	ck_assert_msg((at_master.why == NULL) == (_i == 0), "a peer that is gone is no fault");
}
END_TEST

/* The descriptor is the caller's again; what waited is dropped, with the descriptors in it. */
START_TEST(a_channel_is_let_go_of)
{
	struct chan_handover	h = good;
	int			pipe_fds[2], fd;

	ck_assert_int_eq(pipe(pipe_fds), 0);
	send_errno = EAGAIN;
	ck_assert_int_eq(chan_send(&worker, CHAN_HANDOVER, &h, &pipe_fds[0]), 0);
	send_errno = 0;
	ck_assert_int_ne(fd = chan_release(&worker), -1);
	ck_assert_int_eq(worker.fd, -1);
	ck_assert_uint_eq(worker.queued, 0);
	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(write(pipe_fds[1], "x", 1), -1);
	turn(2);
	ck_assert_msg(at_master.closed == 0, "it is open");
	fd_close(&fd);
	fd_close(&pipe_fds[1]);
	chan_read_all(&master);
	ck_assert_int_eq(at_master.closed, 1);
	chan_read_all(&master);			/* it is closed: nothing */
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("chan");
	TCase	*tc = unit_case(s, "chan");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_descriptor_arrives_as_the_same_file_and_leaves_the_sender);
	tcase_add_test(tc, messages_stay_apart_and_in_order);
	tcase_add_test(tc, a_shared_descriptor_stays_the_senders);
	tcase_add_test(tc, a_full_queue_says_so_and_takes_nothing);
	tcase_add_test(tc, the_end_of_the_peer_is_told_once);
	tcase_add_test(tc, a_value_that_cannot_be_is_not_sent);
	tcase_add_loop_test(tc, what_is_too_long_or_has_two_descriptors_closes_the_channel, 0, 2);
	tcase_add_test(tc, a_channel_that_can_t_be_watched_is_watched_later);
	tcase_add_test(tc, a_signal_is_no_failure);
	tcase_add_loop_test(tc, a_channel_that_breaks_is_closed_and_says_why, 0, 2);
	tcase_add_test(tc, a_channel_is_let_go_of);
	unit_rows(tc, a_hand_over_that_no_request_makes_closes_the_channel, unsound);
	unit_rows(tc, and_is_not_sent, unsound);
	tcase_add_test(tc, a_match_s_group_shows_a_block_or_some_of_its_blocks);
	tcase_add_loop_test(tc, without_memory_it_is_later, 0, 2);
	unit_rows(tc, a_peer_that_breaks_the_table_is_closed, broken);
	return (unit_main(s));
}
