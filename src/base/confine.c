/* SPDX-License-Identifier: ISC */
/*
 * System calls, by seccomp.  Two ways were open: to allow what is known to be
 * needed, or to refuse what is known to be dangerous.
 *	Workers and loops are allowed a list.  What is not in it does not exist for
 *	  them (ENOSYS), and is no end of the process: libraries try new calls first
 *	  and take the old ones where a kernel has none, so a C library of next year
 *	  finds its way, as it does on a kernel of ten years ago.  EPERM would be taken
 *	  for an answer, not for "try the other".  The list is what these processes were
 *	  seen to use, and what C libraries, resolvers, OpenSSL and Kerberos are known
 *	  to use in the place of those on other machines.
 *	The calls that only somebody who got in would make are refused by name, with
 *	  EPERM and a line in the log.  They trap, and the handler of SIGSYS gives the
 *	  answer; a thread that blocks that signal would end by it, and C libraries
 *	  block all signals around fork and the start of threads: those calls get their
 *	  errno without a trap, and fork(3) says so by a handler of its own.
 *	The master forks, binds and kills by profession: it is only refused the calls by
 *	  name that are no trade of its.  Its children inherit that.
 * Arguments are looked at where a call is needed for one thing and could do another:
 * clone (threads for the resolver, no processes), socket (families), open (to read),
 * tgkill (ourselves).
 *
 * Files, by Landlock: nothing is written, made, removed or executed, and no TCP port
 * bound; but for the master's sockets, and what stands beside them.  What may be read is left to permissions: libpq, OpenSSL, Kerberos and the
 * modules of nsswitch.conf have files anywhere, and want them when a connection is
 * made anew.  A process in a Landlock domain does not reach one outside by /proc,
 * ptrace or a signal either.
 *
 * The length of the lists costs nothing: the kernel knows by number (since 5.11) what
 * is allowed whatever its arguments are, and the others are a binary tree.
 * A build that writes when it ends (coverage), or that looks into itself
 * (sanitizers), is not confined.
 */
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/must.h"
#include "config.h"

#ifdef HAVE_SECCOMP
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/mman.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <ucontext.h>

#include <seccomp.h>
#endif

#define PRIVATE_UMASK	077
#ifndef PR_SET_VMA
#define PR_SET_VMA	0x53564d41	/* to name memory */
#endif

static bool		 is_wanted;
static const char	*kept[2];	/* paths of the master's sockets */
static size_t		 nkept;

/* Does this build have something that the confined could not do? */
static bool
is_instrumented(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return (true);
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return (true);
#endif
#endif
	extern void __gcov_init(void *) __attribute__((weak));		/* gcc's --coverage, */
	extern void llvm_gcov_init(void) __attribute__((weak));		/* clang's, */
	extern int  __llvm_profile_runtime __attribute__((weak));	/* and its other one */

	return (__gcov_init != NULL || llvm_gcov_init != NULL || &__llvm_profile_runtime != NULL);
}

void
confine_start(bool has_secret)
{
	if (is_instrumented())
		return;
	is_wanted = true;
	(void)umask(PRIVATE_UMASK);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		log_debug("confine: no_new_privs: %s", strerror(errno));
	if (has_secret && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		log_debug("confine: dumpable: %s", strerror(errno));
}

void
confine_keep_beside(const char *path)
{
	must(nkept < nitems(kept));
	kept[nkept++] = path;
}

/* --- files: Landlock ---------------------------------------------------------- */

/* <linux/landlock.h> has these, as far as it is new enough; the numbers are the kernel's interface. */
#define LL_CREATE_RULESET	444
#define LL_ADD_RULE		445
#define LL_RESTRICT_SELF	446
#define LL_ASK_VERSION		1u
#define LL_RULE_PATH		1
#define LL_FS_EXECUTE		UINT64_C(1)
#define LL_FS_WRITE_FILE	(UINT64_C(1) << 1)
#define LL_FS_READ_FILE		(UINT64_C(1) << 2)
#define LL_FS_READ_DIR		(UINT64_C(1) << 3)
#define LL_FS_ALL(bits)		((UINT64_C(1) << (bits)) - 1)
#define LL_NET_BIND_TCP		UINT64_C(1)
#define LL_SCOPE_SIGNAL		UINT64_C(2)

struct landlock_ruleset {
	uint64_t fs, net, scoped;
};

struct landlock_path {
	uint64_t fs;
	int32_t	 fd;
} __attribute__((packed));

/* What each version of the interface knows of files, from 1 on: so many rights. */
static const unsigned landlock_fs_bits[] = { 13, 14, 15, 15, 16 };

/* 0: none here. */
static int
landlock_version(void)
{
	long v = syscall(LL_CREATE_RULESET, NULL, 0, LL_ASK_VERSION);

	return (v > 0 ? (int)v : 0);	/* ENOSYS: not built in; EOPNOTSUPP: not switched on; EPERM: not in this container */
}

/* Let these rights be had at path, and below; what is not there needs none.  False, errno set: they can't be. */
static bool
let(int ruleset, const char *path, uint64_t rights)
{
	int			fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path	rule = { .fs = rights, .fd = fd };
	bool			is_let;

	if (fd == -1)
		return (errno == ENOENT || errno == ENOTDIR);
	is_let = syscall(LL_ADD_RULE, ruleset, LL_RULE_PATH, &rule, 0) == 0;
	fd_close(&fd);
	return (is_let);
}

/* The master takes its sockets and their locks away when it ends; and a child that it forks begins with /dev/null. */
static bool
let_master(int ruleset, uint64_t rights)
{
	bool	 is_let = let(ruleset, "/dev/null", LL_FS_WRITE_FILE);
	char	*copy;
	size_t	 i;

	for (i = 0; is_let && i < nkept; i++) {
		if ((copy = strdup(kept[i])) == NULL)
			return (false);
		is_let = let(ruleset, dirname(copy), rights & ~LL_FS_EXECUTE);
		free(copy);
	}
	return (is_let);
}

static void
confine_files(enum confine_role role)
{
	struct landlock_ruleset	 rules = { 0 };
	bool			 is_master = role == CONFINE_MASTER;
	int			 v = landlock_version(), fd;
	size_t			 i;

	if (v == 0) {
		log_debug("confine: no Landlock here: %s", strerror(errno));
		return;
	}
	i = (size_t)v > nitems(landlock_fs_bits) ? nitems(landlock_fs_bits) - 1 : (size_t)v - 1;
	rules.fs = LL_FS_ALL(landlock_fs_bits[i]) & ~(LL_FS_READ_FILE | LL_FS_READ_DIR);
	rules.net = v >= 4 ? LL_NET_BIND_TCP : 0;	/* the master's sockets are bound already */
	rules.scoped = v >= 6 ? LL_SCOPE_SIGNAL : 0;	/* its children are in its domain */
	/* what is handled, and not let by a rule, is refused everywhere: rules that can't be had would keep what is needed from us */
	fd = (int)syscall(LL_CREATE_RULESET, &rules, sizeof(rules), 0);
	if (fd == -1 || (is_master && !let_master(fd, rules.fs)) || syscall(LL_RESTRICT_SELF, fd, 0) == -1)
		log_warn("not confined by Landlock");
	fd_close(&fd);
}

/* --- system calls: seccomp ---------------------------------------------------- */

#ifdef HAVE_SECCOMP

#define OPEN_TO_WRITE	(O_ACCMODE | O_CREAT | O_TRUNC)
#define SECCOMP_LAST	1024		/* numbers of calls are below */
#define PID_MARK	0x5ea7ca57u	/* no pid of Linux: fill_in_pid */

/* Without what a trap needs to give an answer, a call is refused without a word. */
#if defined(__x86_64__)
#define TRAP_RESULT(uc)	((uc)->uc_mcontext.gregs[REG_RAX])
#elif defined(__i386__)
#define TRAP_RESULT(uc)	((uc)->uc_mcontext.gregs[REG_EAX])
#elif defined(__aarch64__)
#define TRAP_RESULT(uc)	((uc)->uc_mcontext.regs[0])
#elif defined(__arm__)
#define TRAP_RESULT(uc)	((uc)->uc_mcontext.arm_r0)
#elif defined(__riscv)
#define TRAP_RESULT(uc)	((uc)->uc_mcontext.__gregs[REG_A0])
#endif
#ifdef TRAP_RESULT
#define REFUSE		SCMP_ACT_TRAP
#else
#define REFUSE		SCMP_ACT_ERRNO(EPERM)
#endif

/* SCMP_SYS(name), also where name is a macro: pread64 of musl is pread. */
#define CALL(name)	__SNR_##name

/* Whatever the arguments are. */
static const int allowed[] = {
	/* each second and for each viewer */
	CALL(epoll_wait), CALL(epoll_pwait), CALL(epoll_pwait2), CALL(epoll_ctl), CALL(sendto), CALL(recvfrom), CALL(send), CALL(recv),
	CALL(sendmsg), CALL(recvmsg), CALL(read), CALL(write), CALL(readv), CALL(writev), CALL(close), CALL(poll), CALL(ppoll),
	CALL(ppoll_time64), CALL(setsockopt), CALL(getsockopt), CALL(connect), CALL(shutdown), CALL(getsockname), CALL(getpeername),
	CALL(fcntl), CALL(fcntl64), CALL(clock_gettime), CALL(clock_gettime64), CALL(gettimeofday), CALL(time),
	/* event loops of other libraries and machines, and a resolver's many questions */
	CALL(epoll_create), CALL(epoll_create1), CALL(eventfd), CALL(eventfd2), CALL(select), CALL(_newselect), CALL(pselect6),
	CALL(pselect6_time64), CALL(pipe), CALL(pipe2), CALL(timerfd_create), CALL(timerfd_settime), CALL(timerfd_settime64),
	CALL(timerfd_gettime), CALL(timerfd_gettime64), CALL(sendmmsg), CALL(recvmmsg), CALL(recvmmsg_time64), CALL(dup), CALL(dup2), CALL(dup3),
	/* memory */
	CALL(brk), CALL(mmap), CALL(mmap2), CALL(munmap), CALL(mremap), CALL(mprotect), CALL(madvise), CALL(mincore), CALL(membarrier),
	CALL(cacheflush), CALL(riscv_flush_icache),
	/* files, to be read (open: below) */
	CALL(lseek), CALL(_llseek), CALL(pread64), CALL(preadv), CALL(pwrite64), CALL(fstat), CALL(fstat64), CALL(stat), CALL(stat64), CALL(lstat), CALL(lstat64),
	CALL(newfstatat), CALL(fstatat64), CALL(statx), CALL(statfs), CALL(statfs64), CALL(fstatfs), CALL(fstatfs64), CALL(access),
	CALL(faccessat), CALL(faccessat2), CALL(getcwd), CALL(readlink), CALL(readlinkat), CALL(getdents), CALL(getdents64),
	CALL(flock), CALL(fadvise64), CALL(fadvise64_64), CALL(arm_fadvise64_64), CALL(close_range),
	/* threads (clone: below) and signals of our own */
	CALL(futex), CALL(futex_time64), CALL(set_robust_list), CALL(get_robust_list), CALL(set_tid_address),
	CALL(rseq), CALL(arch_prctl), CALL(set_tls), CALL(set_thread_area), CALL(sched_yield), CALL(sched_getaffinity), CALL(getcpu), CALL(exit),
	CALL(exit_group), CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(sigreturn), CALL(sigaltstack),
	CALL(rt_sigtimedwait), CALL(rt_sigtimedwait_time64), CALL(rt_sigpending), CALL(restart_syscall), CALL(pause),
	CALL(nanosleep), CALL(clock_nanosleep), CALL(clock_nanosleep_time64), CALL(clock_getres), CALL(clock_getres_time64),
#ifndef __GLIBC__
	CALL(bind),	/* musl asks name servers from a socket that it binds; Landlock has its own word about TCP and paths */
#endif
	/* who we are, where we are */
	CALL(getpid), CALL(gettid), CALL(getppid), CALL(getpgrp), CALL(getpgid), CALL(getsid), CALL(getuid), CALL(getuid32), CALL(geteuid),
	CALL(geteuid32), CALL(getgid), CALL(getgid32), CALL(getegid), CALL(getegid32), CALL(getgroups), CALL(getgroups32),
	CALL(getresuid), CALL(getresuid32), CALL(getresgid), CALL(getresgid32), CALL(getrandom), CALL(uname), CALL(sysinfo), CALL(getrlimit),
	CALL(ugetrlimit), CALL(getrusage), CALL(times),
};

/* libfcgi reads requests from a file in memory; and who reads requests accepts. */
static const int allowed_to_workers[] = {
	CALL(accept), CALL(accept4), CALL(memfd_create), CALL(ftruncate), CALL(ftruncate64),
};

/* Needed for one thing, and able to do another: allowed if the argument is (masked) that value. */
static const struct {
	int			 nr;
	struct scmp_arg_cmp	 arg;
} allowed_if[] = {
	{ CALL(open), { 1, SCMP_CMP_MASKED_EQ, OPEN_TO_WRITE, O_RDONLY } },
	{ CALL(openat), { 2, SCMP_CMP_MASKED_EQ, OPEN_TO_WRITE, O_RDONLY } },
	{ CALL(socket), { 0, SCMP_CMP_EQ, AF_UNIX, 0 } },
	{ CALL(socket), { 0, SCMP_CMP_EQ, AF_INET, 0 } },
	{ CALL(socket), { 0, SCMP_CMP_EQ, AF_INET6, 0 } },
	{ CALL(ioctl), { 1, SCMP_CMP_EQ, FIONREAD, 0 } },
	{ CALL(ioctl), { 1, SCMP_CMP_EQ, FIONBIO, 0 } },
	{ CALL(ioctl), { 1, SCMP_CMP_EQ, TCGETS, 0 } },
	{ CALL(ioctl), { 1, SCMP_CMP_EQ, SIOCGIFINDEX, 0 } },	/* an address with a scope, "fe80::1%eth0" */
	{ CALL(ioctl), { 1, SCMP_CMP_EQ, SIOCGIFNAME, 0 } },
	{ CALL(prctl), { 0, SCMP_CMP_EQ, PR_SET_NAME, 0 } },
	{ CALL(prctl), { 0, SCMP_CMP_EQ, PR_SET_VMA, 0 } },
	{ CALL(prlimit64), { 0, SCMP_CMP_EQ, 0, 0 } },		/* ourselves */
};

/* What nobody here asks for: EPERM, and a word in the log. */
static const struct refused {
	int		 nr;
	const char	*name;
	bool		 to_master;
} refused[] = {
#define ALL(name)	{ __SNR_##name, #name, true }
#define CHILDREN(name)	{ __SNR_##name, #name, false }
	ALL(execve), ALL(execveat), ALL(ptrace), ALL(process_vm_readv), ALL(process_vm_writev), ALL(pidfd_getfd), ALL(kcmp),
	ALL(unshare), ALL(setns), ALL(mount), ALL(umount2), ALL(pivot_root), ALL(chroot), ALL(open_by_handle_at), ALL(name_to_handle_at),
	ALL(init_module), ALL(finit_module), ALL(delete_module), ALL(kexec_load), ALL(kexec_file_load), ALL(reboot), ALL(bpf),
	ALL(perf_event_open), ALL(userfaultfd), ALL(io_uring_setup), ALL(add_key), ALL(request_key), ALL(keyctl), ALL(quotactl), ALL(acct),
	ALL(swapon), ALL(swapoff), ALL(settimeofday), ALL(clock_settime), ALL(adjtimex), ALL(clock_adjtime), ALL(sethostname), ALL(setdomainname),
	ALL(setuid), ALL(setgid), ALL(setreuid), ALL(setregid), ALL(setresuid), ALL(setresgid), ALL(setgroups), ALL(setfsuid), ALL(setfsgid), ALL(capset),
	ALL(mknod), ALL(mknodat), ALL(chown), ALL(lchown), ALL(fchown), ALL(fchownat), ALL(personality), ALL(iopl), ALL(ioperm),
#ifdef __GLIBC__
	CHILDREN(bind),
#endif
	CHILDREN(listen), CHILDREN(socketpair), CHILDREN(kill), CHILDREN(rt_sigqueueinfo), CHILDREN(pidfd_open), CHILDREN(pidfd_send_signal),
	CHILDREN(creat), CHILDREN(unlink), CHILDREN(unlinkat), CHILDREN(rename), CHILDREN(renameat), CHILDREN(renameat2), CHILDREN(mkdir),
	CHILDREN(mkdirat), CHILDREN(rmdir), CHILDREN(link), CHILDREN(linkat), CHILDREN(symlink), CHILDREN(symlinkat), CHILDREN(chmod),
	CHILDREN(fchmod), CHILDREN(fchmodat), CHILDREN(truncate), CHILDREN(chdir), CHILDREN(fchdir), CHILDREN(setsid), CHILDREN(setpgid),
#undef ALL
#undef CHILDREN
};

static void
say_refused(const char *call)
{
	log_warnx("confined: %s: refused, and not needed by anything here: a library that is new, or somebody who got in; "
	    "said once for each call", call);
}

#ifdef TRAP_RESULT
static void
on_refused(int sig, siginfo_t *info, void *context)
{
	static atomic_bool	 said[SECCOMP_LAST];
	ucontext_t		*uc = context;
	int			 nr = info->si_syscall;
	bool			 is_open = nr == CALL(openat) || nr == CALL(open);
	const char		*name = is_open ? "open to write" : "a system call";
	size_t			 i;

	(void)sig;
	TRAP_RESULT(uc) = is_open ? -EACCES : -EPERM;
	for (i = 0; i < nitems(refused); i++)
		if (refused[i].nr == nr)
			name = refused[i].name;
	if (nr >= 0 && nr < SECCOMP_LAST && !atomic_exchange(&said[nr], true))
		say_refused(name);
}

static void
watch_refused(void)
{
	struct sigaction	sa = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART };
	sigset_t		set;

	sigemptyset(&sa.sa_mask);
	sigaction(SIGSYS, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
#else
static void
watch_refused(void)
{
}
#endif

static void
on_fork(void)
{
	static bool said;

	if (!said)
		say_refused("fork");
	said = true;
}

static int
allow(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	size_t	i;
	int	rc = 0;

	for (i = 0; i < n && rc == 0; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	return (rc);
}

/* Of what is no family of ours glibc's getaddrinfo wants netlink, to sort addresses by, and does without. */
static int
refuse_families(scmp_filter_ctx ctx)
{
	return (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), CALL(socket), 1, SCMP_A0(SCMP_CMP_GT, AF_INET6, 0)));
}

/* Threads, no processes; the new call hides its flags in memory, and C libraries know the old one. */
static int
allow_threads(scmp_filter_ctx ctx)
{
#ifdef __s390__
	const unsigned	flags = 1;
#else
	const unsigned	flags = 0;
#endif
	int		rc;

	if ((rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(clone), 1, SCMP_CMP(flags, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD))) == 0 &&
	    (rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), CALL(clone), 1, SCMP_CMP(flags, SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0))) == 0 &&
	    (rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), CALL(fork), 0)) == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), CALL(vfork), 0);
	return (rc);
}

/* abort and raise. */
static int
allow_own_signals(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp	us = SCMP_A0(SCMP_CMP_EQ, PID_MARK, 0);
	int				rc;

	if ((rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(tgkill), 1, us)) == 0)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, CALL(tkill), 1, us);
	return (rc);
}

/* To read, and not to write: what is neither is refused. */
static int
refuse_open_to_write(scmp_filter_ctx ctx)
{
	static const scmp_datum_t	bits[] = { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC };
	size_t				i;
	int				rc = 0;

	for (i = 0; i < nitems(bits) && rc == 0; i++)
		if ((rc = seccomp_rule_add(ctx, REFUSE, CALL(openat), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, bits[i], bits[i]))) == 0)
			rc = seccomp_rule_add(ctx, REFUSE, CALL(open), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, bits[i], bits[i]));
	return (rc);
}

static int
add_rules(scmp_filter_ctx ctx, enum confine_role role)
{
	size_t	i;
	int	rc = 0;

	for (i = 0; i < nitems(refused) && rc == 0; i++)
		if (refused[i].to_master || role != CONFINE_MASTER)
			rc = seccomp_rule_add(ctx, REFUSE, refused[i].nr, 0);
	if (rc != 0 || role == CONFINE_MASTER)
		return (rc);
	rc = allow(ctx, allowed, nitems(allowed));
	if (rc == 0 && role == CONFINE_WORKER)
		rc = allow(ctx, allowed_to_workers, nitems(allowed_to_workers));
	for (i = 0; i < nitems(allowed_if) && rc == 0; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed_if[i].nr, 1, allowed_if[i].arg);
	if (rc == 0)
		rc = refuse_families(ctx);
	if (rc == 0)
		rc = allow_threads(ctx);
	if (rc == 0)
		rc = allow_own_signals(ctx);
	return (rc == 0 ? refuse_open_to_write(ctx) : rc);
}

/* The filter of a role as the kernel wants it, in p: instructions that are ours.  0, or -errno. */
static int
read_program(struct sock_fprog *p, int fd)
{
	struct stat	 st;
	size_t		 len;

	if (fstat(fd, &st) == -1)
		return (-errno);
	len = (size_t)st.st_size;
	if ((p->filter = malloc(len)) == NULL || pread(fd, p->filter, len, 0) != st.st_size) {
		free(p->filter);
		p->filter = NULL;
		return (-ENOMEM);
	}
	p->len = (unsigned short)(len / sizeof(*p->filter));
	return (0);
}

static int
write_program(int fd, enum confine_role role)
{
	scmp_filter_ctx	ctx = seccomp_init(role == CONFINE_MASTER ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS));
	int		rc;

	if (ctx == NULL)
		return (-ENOMEM);
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if ((rc = add_rules(ctx, role)) == 0)
		rc = seccomp_export_bpf(ctx, fd);
	seccomp_release(ctx);
	return (rc);
}

/* By a child: libseccomp leaves a heap full of holes, which all our children would share and then have copies of. */
static int
make_program(struct sock_fprog *p, enum confine_role role)
{
	int	fd, status = 0, rc;
	pid_t	pid;

	if ((fd = memfd_create("seatcast filter", MFD_CLOEXEC)) == -1)
		return (-errno);
	if ((pid = fork()) == 0)
		_exit(-write_program(fd, role) & 0xff);
	while (pid != -1 && waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (pid == -1)
		rc = -errno;
	else if (!WIFEXITED(status))
		rc = -ECHILD;
	else
		rc = WEXITSTATUS(status) == 0 ? read_program(p, fd) : -WEXITSTATUS(status);
	(void)close(fd);
	return (rc);
}

/* A filter is made before it is known whose it is. */
static void
fill_in_pid(struct sock_fprog *p)
{
	size_t	i;

	for (i = 0; i < p->len; i++)
		if (p->filter[i].k == PID_MARK)
			p->filter[i].k = (uint32_t)getpid();
}

/* No foreign code runs here that could spy by speculation: without that guard it is as fast as before. */
static int
load_program(const struct sock_fprog *p)
{
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, p) == 0 ||	/* Linux 4.17 */
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, p) == 0)
		return (0);
	return (-errno);
}

/*
 * The master makes all filters before it forks: it takes a millisecond and more
 * memory than a loop has, and a child then only loads its own.
 */
static void
confine_calls(enum confine_role role)
{
	static struct sock_fprog	programs[CONFINE_ROLES];
	struct sock_fprog		*ours = &programs[role];
	int				 i, rc = 0;

	for (i = 0; i < CONFINE_ROLES && rc == 0; i++)
		if (programs[i].filter == NULL && (i == (int)role || role == CONFINE_MASTER))
			rc = make_program(&programs[i], (enum confine_role)i);
	if (rc == 0) {
		watch_refused();
		if (role != CONFINE_MASTER)
			(void)pthread_atfork(on_fork, NULL, NULL);
		fill_in_pid(ours);
		rc = load_program(ours);
	}
	if (rc != 0)
		log_debug("confine: no seccomp here: %s", strerror(-rc));
}

#else

static void
confine_calls(enum confine_role role)
{
	(void)role;
}

#endif

/* --- both --------------------------------------------------------------------- */

void
confine(enum confine_role role)
{
	if (!is_wanted)
		return;
	confine_files(role);
	confine_calls(role);
}

const char *
confine_means(char *out, size_t size)
{
	int		 v = landlock_version();
	const char	*calls = "";

#ifdef HAVE_SECCOMP
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != -1)
		calls = "system calls (seccomp)";
#endif
	if (is_instrumented())
		snprintf(out, size, "nothing: a build for tests");
	else if (v != 0)
		snprintf(out, size, "%s%sfiles (Landlock %d)", calls, calls[0] != '\0' ? ", " : "", v);
	else
		snprintf(out, size, "%s", calls[0] != '\0' ? calls : "nothing: neither seccomp nor Landlock here");
	return (out);
}
