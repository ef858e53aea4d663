/* SPDX-License-Identifier: ISC */
/*
 * peer - who asks: the user, the client, and the page's origin, as the web server says.
 *
 * Made once for each request from its FastCGI parameters; nothing else reads those.
 * Runs in: worker.  Pure: no descriptor, no clock, no log.
 * Source: WHATWG Fetch, 3.2 (CORS protocol), 3.1 (Origin header); W3C Fetch Metadata.
 */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/chan.h"

struct opts;

struct peer {
	int64_t	user_id;		/* who is logged in (--user-param); 0: not known */
	char	client[CHAN_CLIENT_BYTES];	/* --client-param; "" not known */
	char	origin[CHAN_ORIGIN_BYTES];	/* a page of this other origin, allowed by --allow-origin; "" none */
	bool	cross_site;		/* the browser says that another site's page asks */
};

/* A FastCGI parameter of the request; NULL: not sent. */
typedef const char *peer_param_cb(const void *arg, const char *name);

void	peer_read(struct peer *p, const struct opts *o, peer_param_cb *param, const void *arg);

#endif
