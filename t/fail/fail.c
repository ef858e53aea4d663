/* SPDX-License-Identifier: ISC */
/*
 * fail - by LD_PRELOAD: allocations and system calls of seatcast's processes are
 * counted by the place they are made from, and one of them fails when it is told to.
 *
 * A site is a kind of process, a function, and who called it: the innermost
 * frame, and the innermost FRAMES of the program itself.  Which kind a process is
 * of, it says itself: setproctitle("worker") makes it a worker.  Between main and
 * the first title it is of kind "start", between fork and its title "newborn".
 *
 * Orders and counts are in a file (FAIL_STATE) that all processes have mapped: see
 * struct state, which t/slow/s500-every-call-fails.t writes and reads.  Nothing here
 * allocates; a call that is made while another is looked at is let through.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE	1
#endif
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include <bsd/unistd.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SITES		4096	/* a power of two */
#define TEXT		216
#define FRAMES		3
#define DEPTH		24
#define MODULES		64

enum mode { COUNT, ONCE, FOR_A_WHILE, FROM_THEN_ON };

struct site {
	_Atomic uint64_t	key;
	_Atomic uint32_t	count;
	_Atomic uint32_t	written;
	char			text[TEXT];	/* "loop malloc libev.so.4+12ab seatcast+34cd …" */
};

struct state {
	/* orders */
	uint64_t		target;		/* the site */
	uint32_t		mode, while_ms;
	_Atomic uint32_t	armed;		/* now: its next call is the first to fail */
	uint32_t		unused;
	/* what came of them */
	_Atomic uint64_t	began_ms;
	_Atomic uint32_t	failed;		/* calls */
	_Atomic uint32_t	error;		/* the errno */
	char			pad[24];
	struct site		sites[SITES];	/* by key, open addressing */
};

/* Every function of which a call may fail, and how. */
#define CALLS \
	CALL(malloc, ENOMEM) CALL(calloc, ENOMEM) CALL(realloc, ENOMEM) CALL(mmap, ENOMEM) \
	CALL(sendmsg, ENOBUFS) CALL(recvmsg, ENOMEM) CALL(send, ENOBUFS) CALL(recv, ENOMEM) \
	CALL(read, EINTR) CALL(write, EAGAIN) CALL(pwrite, ENOSPC) CALL(ftruncate, ENOMEM) \
	CALL(accept4, EMFILE) CALL(socket, EMFILE) CALL(socketpair, EMFILE) CALL(connect, EAGAIN) \
	CALL(bind, ENOMEM) CALL(listen, ENOMEM) CALL(setsockopt, ENOBUFS) CALL(getsockopt, ENOBUFS) \
	CALL(open, EMFILE) CALL(fcntl, EMFILE) CALL(dup2, EMFILE) CALL(memfd_create, EMFILE) CALL(eventfd, EMFILE) \
	CALL(timerfd_create, EMFILE) CALL(signalfd, EMFILE) CALL(pipe, EMFILE) \
	CALL(epoll_create1, EMFILE) CALL(epoll_ctl, ENOMEM) CALL(poll, ENOMEM) \
	CALL(fork, EAGAIN) CALL(pthread_create, EAGAIN) CALL(getaddrinfo, ENOMEM) \
	CALL(stat, ENOMEM) CALL(lstat, ENOMEM) CALL(fstat, ENOMEM)

enum call {
#define CALL(name, error)	CALL_##name,
	CALLS
#undef CALL
	CALL__MAX
};

static const struct {
	const char	*name;
	int		 error;
} calls[] = {
#define CALL(name, error)	{ #name, error },
	CALLS
#undef CALL
};

void	*__libc_malloc(size_t);
void	*__libc_calloc(size_t, size_t);
void	*__libc_realloc(void *, size_t);

static struct state	*state;
static char		 kind[16] = "start";
static __thread int	 busy __attribute__((tls_model("initial-exec")));

/* --- modules: what an address is an offset of, whatever the loader did ----------- */

static struct module {
	uintptr_t	start, end, base;
	char		name[32];
} modules[MODULES];
static size_t		 nmodules;

static int
add_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char	*slash = strrchr(info->dlpi_name, '/');
	struct module	*m = &modules[nmodules];
	int		 i;

	(void)size;
	(void)arg;
	if (nmodules == MODULES)
		return (1);
	m->base = info->dlpi_addr;
	m->start = UINTPTR_MAX;
	m->end = 0;
	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD) {
			uintptr_t at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

			m->start = at < m->start ? at : m->start;
			m->end = at + info->dlpi_phdr[i].p_memsz > m->end ? at + info->dlpi_phdr[i].p_memsz : m->end;
		}
	snprintf(m->name, sizeof(m->name), "%s", info->dlpi_name[0] == '\0' ? "seatcast" : slash != NULL ? slash + 1 : info->dlpi_name);
	nmodules++;
	return (0);
}

static const struct module *
module_of(uintptr_t at)
{
	size_t i, tries;

	for (tries = 0; tries < 2; tries++) {
		for (i = 0; i < nmodules; i++)
			if (at >= modules[i].start && at < modules[i].end)
				return (&modules[i]);
		nmodules = 0;		/* one that was loaded since: getaddrinfo does that */
		dl_iterate_phdr(add_module, NULL);
	}
	return (NULL);
}

/* --- sites --------------------------------------------------------------------------- */

/* Who calls: the innermost frame outside this library, and the innermost of the program. */
static void
describe(char *text, enum call call)
{
	void			*frames[DEPTH];
	int			 n = backtrace(frames, DEPTH), i, ours = 0, all = 0;
	size_t			 len = (size_t)snprintf(text, TEXT, "%s %s", kind, calls[call].name);
	const struct module	*here = module_of((uintptr_t)&describe), *m;

	for (i = 0; i < n && ours < FRAMES && len < TEXT; i++) {
		m = module_of((uintptr_t)frames[i]);
		if (m == NULL || m == here)
			continue;
		if (all++ > 0 && m->base != modules[0].base)
			continue;
		ours += m->base == modules[0].base;
		len += (size_t)snprintf(text + len, TEXT - len, " %s+%lx", m->name, (unsigned long)((uintptr_t)frames[i] - 1 - m->base));
	}
}

static struct site *
site_of(const char *text)
{
	uint64_t	 key = 14695981039346656037u, none;
	const char	*p;
	size_t		 i, tries;

	for (p = text; *p != '\0'; p++)		/* FNV-1a */
		key = (key ^ (unsigned char)*p) * 1099511628211u;
	for (i = key % SITES, tries = 0; tries < SITES; i = (i + 1) % SITES, tries++) {
		struct site *s = &state->sites[i];

		none = 0;
		if (atomic_load(&s->key) == key)
			return (s);
		if (atomic_compare_exchange_strong(&s->key, &none, key)) {
			memcpy(s->text, text, TEXT);
			atomic_store(&s->written, 1);
			return (s);
		}
		if (none == key)
			return (s);
	}
	return (NULL);
}

static uint64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

/* From the first failure on, what else fails is the same function in processes of the same kind. */
static bool
is_like_target(const char *text)
{
	const struct site	*s;
	size_t			 i, n;

	for (i = state->target % SITES, n = 0; n < SITES; i = (i + 1) % SITES, n++) {
		s = &state->sites[i];
		if (s->key == state->target)
			break;
	}
	if (n == SITES)
		return (false);
	n = strcspn(s->text, " ");
	n += 1 + strcspn(s->text + n + 1, " ");
	return (strncmp(s->text, text, n) == 0 && text[n] == ' ');
}

static bool
is_due(const struct site *s, const char *text)
{
	uint64_t began = 0;

	if (state->mode == COUNT || !state->armed)
		return (false);
	if (s->key == state->target && atomic_compare_exchange_strong(&state->began_ms, &began, now_ms()))
		return (true);
	if ((began = state->began_ms) == 0)
		return (false);
	if (state->mode == ONCE || !is_like_target(text))
		return (false);
	return (state->mode == FROM_THEN_ON || now_ms() - began < state->while_ms);
}

/* Is this call to fail?  Then errno says of what. */
static bool
fails(enum call call)
{
	char		 text[TEXT];
	struct site	*s;
	int		 saved = errno;
	bool		 due = false;

	if (state == NULL || busy != 0)
		return (false);
	busy = 1;
	memset(text, 0, sizeof(text));
	describe(text, call);
	/* others' writes wake loops and count signals: no system refuses those */
	if ((call != CALL_write && call != CALL_read) || strstr(text, " lib") == NULL)
		if ((s = site_of(text)) != NULL) {
			atomic_fetch_add(&s->count, 1);
			due = is_due(s, text);
		}
	if (due) {
		atomic_fetch_add(&state->failed, 1);
		state->error = (uint32_t)calls[call].error;
	}
	errno = due ? calls[call].error : saved;
	busy = 0;
	return (due);
}

__attribute__((constructor)) static void
start(void)
{
	const char	*path = getenv("FAIL_STATE");
	void		*warm[2], *p;
	int		 fd;

	if (path == NULL || strcmp(program_invocation_short_name, "seatcast") != 0)
		return;			/* who starts it has our environment too */
	dl_iterate_phdr(add_module, NULL);
	(void)backtrace(warm, 2);		/* loads what it needs */
	if ((fd = open(path, O_RDWR | O_CLOEXEC)) == -1)
		return;
	p = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		state = p;
}

/* --- the calls ----------------------------------------------------------------------- */

/* The next one of that name. */
#define NEXT(name) __extension__ ({					\
	static union { void *symbol; __typeof__(&name) call; } next;	\
									\
	if (next.symbol == NULL) {					\
		int was = busy;						\
									\
		busy = 1;						\
		next.symbol = dlsym(RTLD_NEXT, #name);			\
		busy = was;						\
	}								\
	next.call;							\
})

/* A function that returns -1 and errno. */
#define WRAP(type, name, parameters, ...)				\
type									\
name parameters								\
{									\
	if (fails(CALL_##name))						\
		return (-1);						\
	return (NEXT(name)(__VA_ARGS__));				\
}

WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), fd, m, flags)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), fd, m, flags)
WRAP(ssize_t, send, (int fd, const void *p, size_t n, int flags), fd, p, n, flags)
WRAP(ssize_t, recv, (int fd, void *p, size_t n, int flags), fd, p, n, flags)
WRAP(ssize_t, read, (int fd, void *p, size_t n), fd, p, n)
WRAP(ssize_t, write, (int fd, const void *p, size_t n), fd, p, n)
WRAP(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), fd, p, n, at)
WRAP(int, ftruncate, (int fd, off_t n), fd, n)
WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), fd, a, n, flags)
WRAP(int, socket, (int domain, int type, int protocol), domain, type, protocol)
WRAP(int, socketpair, (int domain, int type, int protocol, int fds[2]), domain, type, protocol, fds)
WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t n), fd, a, n)
WRAP(int, bind, (int fd, const struct sockaddr *a, socklen_t n), fd, a, n)
WRAP(int, listen, (int fd, int n), fd, n)
WRAP(int, setsockopt, (int fd, int level, int what, const void *p, socklen_t n), fd, level, what, p, n)
WRAP(int, getsockopt, (int fd, int level, int what, void *p, socklen_t *n), fd, level, what, p, n)
WRAP(int, dup2, (int from, int to), from, to)
WRAP(int, memfd_create, (const char *name, unsigned flags), name, flags)
WRAP(int, eventfd, (unsigned value, int flags), value, flags)
WRAP(int, timerfd_create, (int clock, int flags), clock, flags)
WRAP(int, signalfd, (int fd, const sigset_t *set, int flags), fd, set, flags)
WRAP(int, pipe, (int fds[2]), fds)
WRAP(int, epoll_create1, (int flags), flags)
WRAP(int, epoll_ctl, (int set, int op, int fd, struct epoll_event *e), set, op, fd, e)
WRAP(int, poll, (struct pollfd *fds, nfds_t n, int ms), fds, n, ms)
WRAP(int, stat, (const char *path, struct stat *st), path, st)
WRAP(int, lstat, (const char *path, struct stat *st), path, st)
WRAP(int, fstat, (int fd, struct stat *st), fd, st)

void *
malloc(size_t n)
{
	return (fails(CALL_malloc) ? NULL : __libc_malloc(n));
}

void *
calloc(size_t n, size_t size)
{
	return (fails(CALL_calloc) ? NULL : __libc_calloc(n, size));
}

void *
realloc(void *p, size_t n)
{
	return (fails(CALL_realloc) ? NULL : __libc_realloc(p, n));
}

void *
mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
	if (fails(CALL_mmap))
		return (MAP_FAILED);
	return (NEXT(mmap)(at, n, prot, flags, fd, offset));
}

int
open(const char *path, int flags, ...)
{
	va_list	ap;
	mode_t	mode;

	if (fails(CALL_open))
		return (-1);
	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return (NEXT(open)(path, flags, mode));
}

int
fcntl(int fd, int what, ...)
{
	va_list	 ap;
	void	*arg;

	if (fails(CALL_fcntl))
		return (-1);
	va_start(ap, what);
	arg = va_arg(ap, void *);
	va_end(ap);
	return (NEXT(fcntl)(fd, what, arg));
}

pid_t
fork(void)
{
	pid_t pid;

	if (fails(CALL_fork))
		return (-1);
	if ((pid = NEXT(fork)()) == 0)
		snprintf(kind, sizeof(kind), "newborn");
	return (pid);
}

int
pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
	if (fails(CALL_pthread_create))
		return (EAGAIN);
	return (NEXT(pthread_create)(t, a, run, arg));
}

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
	if (fails(CALL_getaddrinfo))
		return (EAI_MEMORY);
	return (NEXT(getaddrinfo)(name,
	    service, hints, list));
}

/* The first word of its title is the kind of the process. */
void
setproctitle(const char *format, ...)
{
	char	title[128];
	va_list	ap;

	va_start(ap, format);
	vsnprintf(title, sizeof(title), format, ap);
	va_end(ap);
	if (strncmp(title, "starting", 8) != 0)
		snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(title, " "), title);
	NEXT(setproctitle)("%s", title);
}
