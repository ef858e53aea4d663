/* chan: messages arrive whole and checked, a descriptor moves, a full queue says so. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "shared/chan.h"
#include "unit.h"

struct seen {
	int			 messages;
	int			 closed;
	const char		*why;
	enum chan_type		 type;
	union chan_payload	 payload;
	int			 fd;
};

static struct ev_loop	*ev;
static struct chan	 master, worker;
static struct seen	 at_master, at_worker;

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	struct seen *s = c->arg;

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
	struct chan_handover	h = { .key = { 1, 101 }, .request_id = 7 };
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
	ck_assert_int_eq(at_worker.payload.drain.spread_ms, 1);
	turn(1);
	ck_assert_int_eq(at_worker.payload.drain.spread_ms, 2);
	turn(3);
	ck_assert_int_eq(at_worker.payload.drain.spread_ms, 3);
	ck_assert_int_eq(at_worker.messages, 3);
}
END_TEST

/* Fill the socket and the queue; the descriptor of what does not fit stays ours. */
START_TEST(a_full_queue_says_so_and_takes_nothing)
{
	struct chan_handover	h = { .key = { 1, 101 } };
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

int
main(void)
{
	Suite	*s = suite_create("chan");
	TCase	*tc = unit_case(s, "chan");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_descriptor_arrives_as_the_same_file_and_leaves_the_sender);
	tcase_add_test(tc, messages_stay_apart_and_in_order);
	tcase_add_test(tc, a_full_queue_says_so_and_takes_nothing);
	tcase_add_test(tc, the_end_of_the_peer_is_told_once);
	unit_rows(tc, a_peer_that_breaks_the_table_is_closed, broken);
	return (unit_main(s));
}
