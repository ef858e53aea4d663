/* SPDX-License-Identifier: ISC */
/*
 * hosts - where the database may be, as one list of addresses to be tried in turn.
 *
 * libpq takes hosts from the connection string, the environment or a service
 * file, and several addresses from one name; it tries them in order, but one that
 * never answers holds an asynchronous attempt for ever, and names it resolves by
 * itself, which blocks.  So we read its configuration as it does, resolve names
 * outside (resolver), and give it every address as a host of its own: `hostaddr`
 * beside `host`, which TLS and .pgpass go on to compare.  Turned by one, the list
 * begins with the next.
 * Runs in: loops and workers, on libev.  Does not block.  Logs nothing.
 * Source: PostgreSQL documentation, 34.1.1.3 (Specifying Multiple Hosts), 34.1.2 (host, hostaddr, port), 34.17 (service file).
 */
#ifndef HOSTS_H
#define HOSTS_H

#include <ev.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

struct hosts;

/* The last lookup that was under way has ended. */
typedef void hosts_cb(void *arg);

struct hosts	*hosts_new(struct ev_loop *ev, const char *conninfo, hosts_cb *ready, void *arg);	/* NULL: ENOMEM */
void		 hosts_free(struct hosts **hp);

/* Read the configuration, look names up anew.  Then hosts_is_asking: wait for ready, or for as long as one likes. */
void		 hosts_ask(struct hosts *h);
bool		 hosts_is_asking(const struct hosts *h);
/* Is there anything that can be tried, be it from an earlier answer? */
bool		 hosts_any(const struct hosts *h);
/* What is wrong with a name, on one line, when there is nothing to be tried. */
const char	*hosts_error(struct hosts *h);

/* Begin with the next one from now on. */
void		 hosts_turn(struct hosts *h);
/* Start to connect (PQconnectStartParams).  NULL: out of memory. */
PGconn		*hosts_connect(struct hosts *h);

#endif
