/* SPDX-License-Identifier: ISC */
/* listener: a path has one owner, nothing is left behind when it can't be had, a successor takes over from who drains. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/listener.h"
#include "unit.h"

static char	dir[64], path[96], error[512];
static int	listen_errno;

/* In the place of libc's: fails when a test wants it to. */
int
listen(int fd, int backlog)
{
	if (listen_errno == 0)
		return ((int)syscall(SYS_listen, fd, backlog));
	errno = listen_errno;
	return (-1);
}

static void
setup(void)
{
	strcpy(dir, "/tmp/seatcast-listener-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	listen_errno = 0;
	error[0] = '\0';
}

static void
teardown(void)
{
	ck_assert_msg(rmdir(dir) == 0, "something is left in %s", dir);
}

static int
open_here(void)
{
	return (listener_open(path, 0600, error, sizeof(error)));
}

START_TEST(it_listens_with_its_mode_and_leaves_nothing)
{
	struct stat	st;
	int		fd;

	ck_assert_int_ne(fd = open_here(), -1);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	listener_close(&fd, path);
	ck_assert_int_eq(fd, -1);
}
END_TEST

START_TEST(a_socket_that_can_not_listen_is_removed)
{
	listen_errno = ENOBUFS;
	ck_assert_int_eq(open_here(), -1);
	ck_assert_ptr_nonnull(strstr(error, strerror(ENOBUFS)));
}
END_TEST

START_TEST(a_path_that_is_owned_is_refused)
{
	char	said[512];
	int	fd;

	ck_assert_int_ne(fd = open_here(), -1);
	ck_assert_int_eq(listener_open(path, 0600, said, sizeof(said)), -1);
	ck_assert_ptr_nonnull(strstr(said, "another process serves there"));
	listener_close(&fd, path);
}
END_TEST

START_TEST(who_drains_is_succeeded_and_removes_nothing_of_the_successor)
{
	struct stat	st;
	int		fd, pid, status, go[2], done[2];
	char		c;

	ck_assert_int_eq(pipe(go), 0);
	ck_assert_int_eq(pipe(done), 0);
	ck_assert_int_ne(fd = open_here(), -1);
	ck_assert(!listener_succeeded(path));
	listener_leave(path);
	ck_assert(!listener_succeeded(path));
	if ((pid = fork()) == 0) {
		int next = open_here();

		c = next == -1;
		(void)!write(done[1], &c, 1);
		(void)!read(go[0], &c, 1);
		listener_close(&next, path);
		_exit(0);
	}
	ck_assert_int_eq(read(done[0], &c, 1), 1);
	ck_assert_int_eq(c, 0);
	ck_assert(listener_succeeded(path));
	listener_close(&fd, path);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(write(go[1], "x", 1), 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	for (fd = 0; fd < 2; fd++) {
		fd_close(&go[fd]);
		fd_close(&done[fd]);
	}
}
END_TEST

static const struct {
	const char	*says, *address, *why;
} wrong[] = {
	{ "an asterisk is not guessed at", "*:9000", "write 0.0.0.0:PORT or [::]:PORT" },
	{ "a name without a port", "localhost", "not a path" },
	{ "a port that is none", ":0", "not a path" },
	{ "a path that is too long", "/tmp/0123456789012345678901234567890123456789012345678901234567890123456789"
	    "01234567890123456789012345678", "longer than a unix socket's" },
	{ "a directory", "/tmp", "exists and is not a socket" },
	{ "a place that is not there", "/nonexistent/s", "No such file" },
};

START_TEST(what_can_not_be_is_said)
{
	ck_assert_msg(listener_open(wrong[_i].address, 0600, error, sizeof(error)) == -1, "%s", wrong[_i].says);
	ck_assert_msg(strstr(error, wrong[_i].why) != NULL, "%s: %s", wrong[_i].says, error);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("listener");
	TCase	*tc = unit_case(s, "listener");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, it_listens_with_its_mode_and_leaves_nothing);
	tcase_add_test(tc, a_socket_that_can_not_listen_is_removed);
	tcase_add_test(tc, a_path_that_is_owned_is_refused);
	tcase_add_test(tc, who_drains_is_succeeded_and_removes_nothing_of_the_successor);
	unit_rows(tc, what_can_not_be_is_said, wrong);
	return (unit_main(s));
}
