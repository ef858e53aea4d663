/* SPDX-License-Identifier: ISC */
/*
 * answer: bytes go out as far as they are taken, in order, once; nothing waits for who does not read.
 */
#include <sys/socket.h>

#include <ev.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "unit.h"
#include "shared/board.h"
#include "wire/fcgi.h"
#include "worker/answer.h"

static struct board_slot slot;
static struct ev_loop	*loop;
static struct answers	*answers;
static int		 ours, theirs;

static void
begin(void)
{
	int fds[2];

	memset(&slot, 0, sizeof(slot));		/* without forks all tests have the same */
	loop = ev_loop_new(EVFLAG_AUTO);
	answers = answers_new(loop, &slot);
	ck_assert_ptr_nonnull(answers);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ours = fds[0];
	theirs = fds[1];
	ck_assert_int_eq(fd_nonblock(theirs), 0);
}

static void
end(void)
{
	answers_free(&answers);
	ev_loop_destroy(loop);
	fd_close(&theirs);
}

/* What an answer of len bytes is to look like. */
static void
expected(struct buf *b, uint16_t id, const char *cgi, size_t len)
{
	unsigned char	*bytes = malloc(fcgi_stdout_bytes(len) + FCGI_END_BYTES);
	size_t		 n;

	ck_assert_ptr_nonnull(bytes);
	n = fcgi_stdout(bytes, id, cgi, len);
	fcgi_end(bytes + n, id, FCGI_REQUEST_COMPLETE);
	buf_add(b, bytes, n + FCGI_END_BYTES);
	free(bytes);
}

/* Read until the end, so many bytes at a time. */
static bool
read_all(struct buf *b, size_t piece)
{
	char	bytes[65536];
	ssize_t	n;
	int	idle = 0;

	while (idle < 3) {
		n = read(theirs, bytes, piece < sizeof(bytes) ? piece : sizeof(bytes));
		if (n == 0)
			return (true);
		if (n > 0)
			buf_add(b, bytes, (size_t)n);
		idle = n > 0 ? 0 : idle + 1;
		ev_run(loop, EVRUN_NOWAIT);
	}
	return (false);
}

START_TEST(a_short_answer_is_through_at_once)
{
	struct buf cgi = BUF_INIT, want = BUF_INIT, got = BUF_INIT;

	begin();
	buf_puts(&cgi, "Status: 200 OK\r\n\r\nok");
	expected(&want, 7, cgi.data, cgi.len);
	answers_send(answers, ours, 7, NULL, &cgi);
	ck_assert_uint_eq(answers_count(answers), 0);
	ck_assert_ptr_null(cgi.data);
	ck_assert(read_all(&got, 65536));
	unit_same_bytes("the answer", got.data, got.len, want.data, want.len);
	buf_fini(&got);
	buf_fini(&want);
	end();
}
END_TEST

START_TEST(a_long_one_waits_for_its_reader)
{
	static const size_t	 pieces[] = { 1000, 65536 };
	struct buf		 cgi = BUF_INIT, want = BUF_INIT, got = BUF_INIT;
	size_t			 i;

	begin();
	for (i = 0; i < 2000000; i++)
		buf_printf(&cgi, "%c", 'a' + (int)(i % 23));
	expected(&want, 300, cgi.data, cgi.len);
	answers_send(answers, ours, 300, NULL, &cgi);
	ck_assert_uint_eq(answers_count(answers), 1);
	ev_run(loop, EVRUN_NOWAIT);
	ck_assert_uint_eq(answers_count(answers), 1);
	ck_assert(read_all(&got, pieces[_i]));
	unit_same_bytes("the answer", got.data, got.len, want.data, want.len);
	ck_assert_uint_eq(answers_count(answers), 0);
	buf_fini(&got);
	buf_fini(&want);
	end();
}
END_TEST

START_TEST(who_has_sent_more_than_was_read_gets_to_read_the_answer)
{
	struct buf cgi = BUF_INIT, got = BUF_INIT;

	begin();
	ck_assert_int_eq((int)write(theirs, "the rest of a body", 18), 18);
	buf_puts(&cgi, "Status: 413 Content Too Large\r\n\r\n");
	answers_send(answers, ours, 1, NULL, &cgi);
	ck_assert_uint_eq(answers_count(answers), 1);	/* lingers */
	ck_assert_int_eq((int)write(theirs, "and more of it", 14), 14);
	ev_run(loop, EVRUN_NOWAIT);
	ck_assert(read_all(&got, 65536));
	ck_assert_ptr_nonnull(strstr(got.data + FCGI_HEADER_LEN, "413"));
	fd_close(&theirs);
	ev_run(loop, EVRUN_ONCE);
	ck_assert_uint_eq(answers_count(answers), 0);
	buf_fini(&got);
	end();
}
END_TEST

START_TEST(a_reader_that_goes_is_forgotten)
{
	struct buf	cgi = BUF_INIT;
	size_t		i;

	begin();
	for (i = 0; i < 100000; i++)
		buf_puts(&cgi, "0123456789");
	answers_send(answers, ours, 1, NULL, &cgi);
	ck_assert_uint_eq(answers_count(answers), 1);
	fd_close(&theirs);
	ev_run(loop, EVRUN_ONCE);
	ck_assert_uint_eq(answers_count(answers), 0);
	end();
}
END_TEST

START_TEST(what_could_not_be_built_is_503)
{
	struct buf cgi = { .failed = true }, got = BUF_INIT;

	begin();
	answers_send(answers, ours, 9, NULL, &cgi);
	ck_assert(read_all(&got, 65536));
	ck_assert_ptr_nonnull(strstr(got.data + FCGI_HEADER_LEN, "Status: 503"));
	ck_assert_int_eq(got.data[3], 9);
	buf_fini(&got);
	end();
}
END_TEST

START_TEST(what_could_not_be_built_is_busy_for_a_stream)
{
	struct buf cgi = { .failed = true }, got = BUF_INIT;

	begin();
	answers_send(answers, ours, 9, "Vary: Origin\r\n", &cgi);
	ck_assert(read_all(&got, 65536));
	ck_assert_ptr_nonnull(strstr(got.data + FCGI_HEADER_LEN, "Status: 200"));
	ck_assert_ptr_nonnull(strstr(got.data + FCGI_HEADER_LEN, "\r\nVary: Origin\r\n\r\nretry: 1"));
	ck_assert_ptr_nonnull(strstr(got.data + FCGI_HEADER_LEN, "\n\nevent: busy\ndata: {\"status\":503,\"message\":\"the service is overloaded"));
	ck_assert_int_eq(board_get(&slot, BOARD_refused_overload), 1);
	buf_fini(&got);
	end();
}
END_TEST

START_TEST(too_much_waits_then_the_oldest_goes)
{
	struct buf	cgi = BUF_INIT;
	int		fds[30][2], i;

	begin();
	fd_close(&ours);
	for (i = 0; i < 30; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
		while (cgi.len < 1000000)
			buf_puts(&cgi, "0123456789012345678901234567890123456789");
		answers_send(answers, fds[i][0], 1, NULL, &cgi);
	}
	ck_assert_uint_ge(answers_count(answers), 14);	/* of a megabyte each */
	ck_assert_uint_le(answers_count(answers), 16);
	answers_free(&answers);
	for (i = 0; i < 30; i++)
		fd_close(&fds[i][1]);
	ev_loop_destroy(loop);
	fd_close(&theirs);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("answer");
	TCase	*tc = unit_case(s, "answer");

	tcase_add_test(tc, a_short_answer_is_through_at_once);
	tcase_add_loop_test(tc, a_long_one_waits_for_its_reader, 0, 2);
	tcase_add_test(tc, who_has_sent_more_than_was_read_gets_to_read_the_answer);
	tcase_add_test(tc, a_reader_that_goes_is_forgotten);
	tcase_add_test(tc, what_could_not_be_built_is_503);
	tcase_add_test(tc, what_could_not_be_built_is_busy_for_a_stream);
	tcase_add_test(tc, too_much_waits_then_the_oldest_goes);
	return (unit_main(s));
}
