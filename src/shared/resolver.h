/* SPDX-License-Identifier: ISC */
/*
 * resolver - the addresses of one host name, without making anybody wait.
 *
 * getaddrinfo(3) may take as long as name servers are silent, and knows all that
 * this machine knows about names; so it runs in a thread of its own, one at a time
 * for a name, and tells by a descriptor.  The last good answer is kept.
 * The thread shares one struct with us, and whoever is last frees it: a lookup
 * that hangs outlives its resolver and harms nobody.
 * Runs in: loops and workers, on libev.  Does not block.  Logs nothing.
 * Source: getaddrinfo(3), eventfd(2); pthreads(7) for what a thread inherits.
 */
#ifndef RESOLVER_H
#define RESOLVER_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

struct resolver;

/* A lookup has ended, one way or the other. */
typedef void resolver_cb(void *arg);

struct resolver	*resolver_new(struct ev_loop *ev, const char *name, resolver_cb *done, void *arg);	/* NULL: ENOMEM */
void		 resolver_free(struct resolver **rp);

/* Look the name up anew, unless a lookup is under way.  done is never called from inside. */
void		 resolver_ask(struct resolver *r);
bool		 resolver_is_asking(const struct resolver *r);

/* The last good answer, in the order in which the addresses are to be tried: numeric, with a scope if need be. */
size_t		 resolver_count(const struct resolver *r);
const char	*resolver_address(const struct resolver *r, size_t i);
const char	*resolver_name(const struct resolver *r);
/* Why the last lookup that ended brought nothing; NULL: it did. */
const char	*resolver_error(const struct resolver *r);

#endif
