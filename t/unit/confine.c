/* SPDX-License-Identifier: ISC */
/*
 * confine: what somebody who got in would try is refused, and said once; what
 * libraries need for a new connection to the database is not.
 *
 * Each case is tried in a process of its own, which is confined for good.
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/log.h"
#include "config.h"
#include "unit.h"

#define IN_VAIN		200	/* the exit status of a child that could not be confined */
#define NO_SUCH_CALL	4095	/* of the kernels of the next decades */

static char	dir[64], file[96], kept[96];	/* kept: the master's socket, in a directory of its own */
static bool	has_seccomp, has_landlock;

/* --- attempts: 0, or errno ------------------------------------------------------ */

static int
try_execve(void)
{
	char	*argv[] = { strdup("true"), NULL };

	return (execv("/bin/true", argv) == -1 ? errno : 0);
}

static int
try_fork(void)
{
	pid_t	pid = fork();

	if (pid == 0)
		_exit(0);
	return (pid == -1 ? errno : 0);
}

static int
try_spawn(void)
{
	char	*argv[] = { strdup("true"), NULL };
	pid_t	 pid;

	return (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, NULL));
}

static int
try_bind_inet(void)
{
	struct sockaddr_in	sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	return (bind(fd, (const struct sockaddr *)&sin, sizeof(sin)) == -1 ? errno : 0);
}

static int
try_bind_unix(void)
{
	struct sockaddr_un	sun = { .sun_family = AF_UNIX };
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/s", dir);
	return (bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) == -1 ? errno : 0);
}

static int
try_listen(void)
{
	return (listen(socket(AF_INET, SOCK_STREAM, 0), 1) == -1 ? errno : 0);
}

static int
try_ptrace(void)
{
	return (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 ? errno : 0);
}

static int
try_read_memory(void)
{
	char		here[8];
	struct iovec	ours = { here, sizeof(here) }, theirs = { dir, sizeof(here) };

	return (process_vm_readv(getppid(), &ours, 1, &theirs, 1, 0) == -1 ? errno : 0);
}

static int
try_kill(void)
{
	return (kill(getppid(), 0) == -1 ? errno : 0);
}

static int	try_tgkill(void) { return (syscall(SYS_tgkill, getppid(), getppid(), 0) == -1 ? errno : 0); }

static int
try_open(const char *path, int flags)
{
	return (open(path, flags, 0600) == -1 ? errno : 0);
}

static int	try_read_file(void) { return (try_open(file, O_RDONLY)); }
static int	try_write_file(void) { return (try_open(file, O_WRONLY)); }
static int	try_append(void) { return (try_open(file, O_RDWR | O_APPEND)); }
static int	try_truncate(void) { return (try_open(file, O_RDONLY | O_TRUNC)); }

static int
try_create(void)
{
	char	path[128];

	snprintf(path, sizeof(path), "%s/new", dir);
	return (try_open(path, O_RDONLY | O_CREAT));
}

static int
try_create_beside(void)
{
	return (try_open(kept, O_RDWR | O_CREAT) != 0 || unlink(kept) == -1 ? errno : 0);
}

static int
try_null(void)
{
	return (try_open("/dev/null", O_RDWR));
}

static int
try_memory_by_proc(void)
{
	char	path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)getppid());
	return (try_open(path, O_RDONLY));
}

static int	try_unlink(void) { return (unlink(file) == -1 ? errno : 0); }
static int	try_chmod(void) { return (chmod(file, 0777) == -1 ? errno : 0); }
static int	try_netlink(void) { return (socket(AF_NETLINK, SOCK_RAW, 0) == -1 ? errno : 0); }
static int	try_packet(void) { return (socket(AF_PACKET, SOCK_RAW, 0) == -1 ? errno : 0); }
static int	try_memfd(void) { return (memfd_create("x", 0) == -1 ? errno : 0); }
static int	try_accept(void) { return (accept(socket(AF_INET, SOCK_STREAM, 0), NULL, NULL) == -1 ? errno : 0); }
static int	try_unknown(void) { return (syscall(NO_SUCH_CALL) == -1 ? errno : 0); }
static int	try_dumpable(void) { return (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == -1 ? errno : 0); }
static int	try_umask(void) { return (umask(077) == 077 ? 0 : EINVAL); }
static int	try_raise(void) { return (raise(SIGURG) == -1 ? errno : 0); }

static void *
thread_main(void *arg)
{
	struct addrinfo	 hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	int		*error = arg;

	if ((*error = getaddrinfo("localhost", "5432", &hints, &list)) == 0)
		freeaddrinfo(list);
	return (NULL);
}

/* As the resolver does. */
static int
try_resolve_in_a_thread(void)
{
	pthread_t	thread;
	int		error, answer = -1;

	if ((error = pthread_create(&thread, NULL, thread_main, &answer)) != 0)
		return (error);
	pthread_join(thread, NULL);
	return (answer == 0 ? 0 : EHOSTUNREACH);
}

static int
try_connect(void)
{
	struct sockaddr_un	sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/nobody", dir);
	return (connect(socket(AF_UNIX, SOCK_STREAM, 0), (const struct sockaddr *)&sun, sizeof(sun)) == -1 ? errno : 0);
}

/* A thread that takes no signals would end by one that is not blocked for it alone. */
static int
try_with_blocked_signals(void)
{
	sigset_t	all;

	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	return (try_kill());
}

/* --- cases ---------------------------------------------------------------------- */

enum needs { NOTHING, SECCOMP, LANDLOCK, LANDLOCK_ALONE };

static const struct {
	const char		*says;
	enum confine_role	 role;
	int			(*attempt)(void);
	int			 error;
	const char		*told;		/* the name of the call in the log; NULL: no word */
	enum needs		 needs;
} cases[] = {
	{ "a loop starts no program", CONFINE_LOOP, try_execve, EPERM, "execve", SECCOMP },
	{ "a worker starts no program", CONFINE_WORKER, try_execve, EPERM, "execve", SECCOMP },
	{ "the master starts no program", CONFINE_MASTER, try_execve, EPERM, "execve", SECCOMP },
	{ "a loop does not fork", CONFINE_LOOP, try_fork, EPERM, "fork", SECCOMP },
	{ "a worker does not fork", CONFINE_WORKER, try_fork, EPERM, "fork", SECCOMP },
	{ "the master does", CONFINE_MASTER, try_fork, 0, NULL, NOTHING },
	{ "posix_spawn, which blocks all signals, is refused and survived", CONFINE_LOOP, try_spawn, EPERM, NULL, SECCOMP },
#ifdef __GLIBC__
	{ "a loop binds no port", CONFINE_LOOP, try_bind_inet, EPERM, "bind", SECCOMP },
	{ "a worker binds no socket", CONFINE_WORKER, try_bind_unix, EPERM, "bind", SECCOMP },
#endif
	{ "the master has bound what it binds", CONFINE_MASTER, try_bind_unix, EACCES, NULL, LANDLOCK },
	{ "a worker does not listen", CONFINE_WORKER, try_listen, EPERM, "listen", SECCOMP },
	{ "a loop does not listen", CONFINE_LOOP, try_listen, EPERM, "listen", SECCOMP },
	{ "a loop traces nobody", CONFINE_LOOP, try_ptrace, EPERM, "ptrace", SECCOMP },
	{ "nor does the master", CONFINE_MASTER, try_ptrace, EPERM, "ptrace", SECCOMP },
	{ "no memory of others", CONFINE_WORKER, try_read_memory, EPERM, "process_vm_readv", SECCOMP },
	{ "not by /proc either", CONFINE_WORKER, try_memory_by_proc, EACCES, NULL, LANDLOCK },
	{ "a loop signals nobody", CONFINE_LOOP, try_kill, EPERM, "kill", SECCOMP },
	{ "nor a thread of another", CONFINE_LOOP, try_tgkill, ENOSYS, NULL, SECCOMP },
	{ "a file is read", CONFINE_LOOP, try_read_file, 0, NULL, NOTHING },
	{ "a file is not written", CONFINE_LOOP, try_write_file, EACCES, "open to write", SECCOMP },
	{ "by Landlock alone neither", CONFINE_LOOP, try_write_file, EACCES, NULL, LANDLOCK_ALONE },
	{ "a file is not appended to", CONFINE_WORKER, try_append, EACCES, "open to write", SECCOMP },
	{ "a file is not emptied", CONFINE_WORKER, try_truncate, EACCES, "open to write", SECCOMP },
	{ "a file is not made", CONFINE_WORKER, try_create, EACCES, "open to write", SECCOMP },
	{ "the master neither", CONFINE_MASTER, try_create, EACCES, NULL, LANDLOCK },
	{ "but where its sockets are", CONFINE_MASTER, try_create_beside, 0, NULL, NOTHING },
	{ "and it has /dev/null", CONFINE_MASTER, try_null, 0, NULL, NOTHING },
	{ "a file is not removed", CONFINE_LOOP, try_unlink, EPERM, "unlink", SECCOMP },
	{ "a file's mode stays", CONFINE_LOOP, try_chmod, EPERM, "chmod", SECCOMP },
	{ "netlink is refused as by RestrictAddressFamilies", CONFINE_LOOP, try_netlink, EAFNOSUPPORT, NULL, SECCOMP },
	{ "no packets", CONFINE_LOOP, try_packet, EAFNOSUPPORT, NULL, SECCOMP },
	{ "a worker has its file in memory", CONFINE_WORKER, try_memfd, 0, NULL, NOTHING },
	{ "a loop has none", CONFINE_LOOP, try_memfd, ENOSYS, NULL, SECCOMP },
	{ "a worker accepts", CONFINE_WORKER, try_accept, EINVAL, NULL, NOTHING },
	{ "a loop does not", CONFINE_LOOP, try_accept, ENOSYS, NULL, SECCOMP },
	{ "a call of the future does not exist", CONFINE_LOOP, try_unknown, ENOSYS, NULL, NOTHING },
	{ "there is no way back", CONFINE_LOOP, try_dumpable, ENOSYS, NULL, SECCOMP },
	{ "files are for nobody else", CONFINE_MASTER, try_umask, 0, NULL, NOTHING },
	{ "signals of our own", CONFINE_LOOP, try_raise, 0, NULL, NOTHING },
	{ "a name is looked up in a thread", CONFINE_LOOP, try_resolve_in_a_thread, 0, NULL, NOTHING },
	{ "a worker's too", CONFINE_WORKER, try_resolve_in_a_thread, 0, NULL, NOTHING },
	{ "a connection is tried", CONFINE_LOOP, try_connect, ENOENT, NULL, NOTHING },
	{ "with signals blocked as in the resolver's thread", CONFINE_LOOP, try_with_blocked_signals, EPERM, "kill", SECCOMP },
};

static void
be_confined(enum confine_role role, int log, int (*attempt)(void))
{
	int	error;

	if (dup2(log, STDERR_FILENO) == -1)
		_exit(IN_VAIN);
	log_open(LOG_LEVEL_INFO, 0);
	confine_start(false);
	confine_keep_beside(kept);
	confine(role);
	(void)attempt();
	error = attempt();
	_exit(error);
}

/* What the log says of it, in out; its exit status, or -1. */
static int
run_confined(enum confine_role role, int (*attempt)(void), char *out, size_t size)
{
	int	fds[2], status;
	size_t	len = 0;
	ssize_t	n;
	pid_t	pid;

	ck_assert_int_eq(pipe(fds), 0);
	fflush(NULL);
	if ((pid = fork()) == 0)
		be_confined(role, fds[1], attempt);
	ck_assert_int_ne(pid, -1);
	close(fds[1]);
	while (len < size - 1 && (n = read(fds[0], out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(fds[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return (WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* Is a process confined here?  Not under valgrind, nor in a build with sanitizers or for coverage. */
static int
look_at_ourselves(void)
{
	return (prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
}

static void
setup(void)
{
	char	means[128], log[4096];
	FILE	*f;

	strcpy(dir, "/tmp/seatcast-confine-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/file", dir);
	snprintf(kept, sizeof(kept), "%s/run", dir);
	ck_assert_int_eq(mkdir(kept, 0700), 0);
	snprintf(kept, sizeof(kept), "%s/run/socket", dir);
	ck_assert_ptr_nonnull(f = fopen(file, "w"));
	fclose(f);
	has_seccomp = run_confined(CONFINE_MASTER, look_at_ourselves, log, sizeof(log)) == 2;
	has_landlock = strstr(confine_means(means, sizeof(means)), "Landlock") != NULL;
}

static void
teardown(void)
{
	static const char *const made[] = { "file", "new", "s" };	/* the last two where nothing is confined */
	char			 path[128];
	size_t			 i;

	for (i = 0; i < nitems(made); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, made[i]);
		unlink(path);
	}
	*strrchr(kept, '/') = '\0';
	rmdir(kept);
	rmdir(dir);
}

/* The lines that say so. */
static int
count_told(const char *log, const char *call)
{
	char	 needle[64];
	int	 n = 0;

	snprintf(needle, sizeof(needle), "confined: %s: refused", call != NULL ? call : "");
	if (call == NULL)
		needle[strlen("confined: ")] = '\0';
	for (; (log = strstr(log, needle)) != NULL; log++)
		n++;
	return (n);
}

static bool
is_possible(enum needs needs)
{
	const bool possible[] = { [NOTHING] = true, [SECCOMP] = has_seccomp, [LANDLOCK] = has_landlock,
	    [LANDLOCK_ALONE] = has_landlock && !has_seccomp };

	return (possible[needs]);
}

START_TEST(attempts)
{
	char	log[8192];
	int	error;

	if (!is_possible(cases[_i].needs))
		return;
	error = run_confined(cases[_i].role, cases[_i].attempt, log, sizeof(log));
	ck_assert_msg(error == cases[_i].error, "%s: %s, not %s: %s", cases[_i].says,
	    error == -1 ? "the process ended" : strerror(error), strerror(cases[_i].error), log);
	ck_assert_msg(count_told(log, cases[_i].told) == (cases[_i].told != NULL), "%s: not said once: %s", cases[_i].says, log);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("confine");
	TCase	*tc = unit_case(s, "attempts");

	tcase_add_unchecked_fixture(tc, setup, teardown);
	unit_rows(tc, attempts, cases);
	suite_add_tcase(s, tc);
	return (unit_main(s));
}
