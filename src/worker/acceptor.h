/* SPDX-License-Identifier: ISC */
/*
 * acceptor - accepts connections and lets through only whole, well-formed requests.
 *
 * Reads what has come into memory of its own and lets fcgi_scan look at what is new,
 * so that libfcgi never waits and never sees hostile records (FASTCGI.md 1.3, 2), and
 * a request may come in any number of pieces.  Nothing behind the request is read: that
 * is the business of whoever gets the connection.  A silent, dripping or garbage peer
 * costs a slot here until its deadline and nothing else.
 * Runs in: worker.  Never blocks.  Logs bad peers at debug and counts them.
 */
#ifndef ACCEPTOR_H
#define ACCEPTOR_H

#include <ev.h>
#include <stddef.h>
#include <stdint.h>

struct acceptor;
struct answers;
struct board_slot;

/* A whole request has been read from fd (blocking, CLOEXEC), which is the callee's; the bytes only until it returns. */
typedef void acceptor_whole_cb(void *arg, int fd, uint16_t request_id, const void *bytes, size_t len);

/* listen_fd (non-blocking) and answers stay the caller's.  NULL: ENOMEM. */
struct acceptor	*acceptor_new(struct ev_loop *ev, int listen_fd, struct board_slot *slot, struct answers *answers,
		    acceptor_whole_cb *on_whole, void *arg);
void		 acceptor_stop(struct acceptor *in);	/* accept no more; go on with those accepted */
size_t		 acceptor_count(const struct acceptor *in);	/* connections whose request is not whole yet */
void		 acceptor_free(struct acceptor **inp);

#endif
