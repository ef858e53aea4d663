/* SPDX-License-Identifier: ISC */
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "shared/resolver.h"

#define MAX_ADDRESSES	16
#define ADDRESS_BYTES	72		/* an IPv6 address and the name of an interface */
#define STACK_BYTES	(256 * 1024)

struct answer {
	int	error;			/* of getaddrinfo; 0: none */
	size_t	count;
	char	address[MAX_ADDRESSES][ADDRESS_BYTES];
};

/* What the thread and its resolver share.  The answer is the thread's until done_fd says so. */
struct lookup {
	atomic_int	 owners;
	int		 done_fd;
	struct answer	 answer;
	char		 name[];
};

struct resolver {
	struct ev_loop	*ev;
	char		*name;
	resolver_cb	*done;
	void		*arg;
	struct lookup	*lookup;	/* NULL: none under way */
	ev_io		 io;		/* on its done_fd */
	int		 error;		/* of the last one that ended */
	struct answer	 answer;	/* the last good one */
};

static void
lookup_release(struct lookup *l)
{
	if (atomic_fetch_sub(&l->owners, 1) > 1)
		return;
	fd_close(&l->done_fd);
	free(l);
}

static void
take_addresses(struct answer *a, const struct addrinfo *list)
{
	for (; list != NULL && a->count < MAX_ADDRESSES; list = list->ai_next)
		if (getnameinfo(list->ai_addr, list->ai_addrlen, a->address[a->count], ADDRESS_BYTES, NULL, 0,
		    NI_NUMERICHOST) == 0)
			a->count++;
}

static void *
lookup_main(void *arg)
{
	static const struct addrinfo	 hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct lookup			*l = arg;
	struct addrinfo			*list = NULL;

	if ((l->answer.error = getaddrinfo(l->name, NULL, &hints, &list)) == 0) {
		take_addresses(&l->answer, list);
		freeaddrinfo(list);
	}
	(void)!write(l->done_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
	lookup_release(l);
	return (NULL);
}

/* Signals are for the event loop's thread, which has its handlers; but for the one that is an answer to the thread's own call (confine.c).  0 or -1. */
static int
start_thread(struct lookup *l)
{
	pthread_attr_t	attr;
	pthread_t	thread;
	sigset_t	all, before;
	int		error;

	if (pthread_attr_init(&attr) != 0)
		return (-1);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attr, lookup_main, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return (error == 0 ? 0 : -1);
}

/* NULL: no thread, descriptor or memory. */
static struct lookup *
lookup_start(const char *name)
{
	size_t		 len = strlen(name) + 1;
	struct lookup	*l = calloc(1, sizeof(*l) + len);

	if (l == NULL)
		return (NULL);
	memcpy(l->name, name, len);
	atomic_init(&l->owners, 2);
	l->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->done_fd == -1 || start_thread(l) == -1) {
		fd_close(&l->done_fd);
		free(l);
		return (NULL);
	}
	return (l);
}

static void
forget_lookup(struct resolver *r)
{
	if (r->lookup == NULL)
		return;
	ev_io_stop(r->ev, &r->io);
	lookup_release(r->lookup);
	r->lookup = NULL;
}

static void
on_done(struct ev_loop *ev, ev_io *w, int revents)
{
	struct resolver	*r = w->data;
	uint64_t	 n;

	(void)ev;
	(void)revents;
	if (read(r->lookup->done_fd, &n, sizeof(n)) != sizeof(n))
		return;
	r->error = r->lookup->answer.error;
	if (r->error == 0 && r->lookup->answer.count == 0)
		r->error = EAI_NONAME;
	if (r->error == 0)
		r->answer = r->lookup->answer;
	else if (r->error == EAI_NONAME)
		r->answer.count = 0;	/* it is known that there is none: the machine may be another's by now */
	forget_lookup(r);
	r->done(r->arg);
}

struct resolver *
resolver_new(struct ev_loop *ev, const char *name, resolver_cb *done, void *arg)
{
	struct resolver *r;

	if ((r = calloc(1, sizeof(*r))) == NULL)
		return (NULL);
	if ((r->name = strdup(name)) == NULL) {
		free(r);
		return (NULL);
	}
	r->ev = ev;
	r->done = done;
	r->arg = arg;
	ev_init(&r->io, on_done);
	r->io.data = r;
	return (r);
}

void
resolver_free(struct resolver **rp)
{
	struct resolver *r = *rp;

	if (r == NULL)
		return;
	forget_lookup(r);
	free(r->name);
	free(r);
	*rp = NULL;
}

void
resolver_ask(struct resolver *r)
{
	if (r->lookup != NULL)
		return;
	if ((r->lookup = lookup_start(r->name)) == NULL) {
		r->error = EAI_MEMORY;
		return;
	}
	ev_io_set(&r->io, r->lookup->done_fd, EV_READ);
	ev_io_start(r->ev, &r->io);
}

bool
resolver_is_asking(const struct resolver *r)
{
	return (r->lookup != NULL);
}

size_t
resolver_count(const struct resolver *r)
{
	return (r->answer.count);
}

const char *
resolver_address(const struct resolver *r, size_t i)
{
	return (r->answer.address[i]);
}

const char *
resolver_name(const struct resolver *r)
{
	return (r->name);
}

const char *
resolver_error(const struct resolver *r)
{
	return (r->error != 0 ? gai_strerror(r->error) : NULL);
}
