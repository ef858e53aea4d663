/*
 * acceptor - accepts connections and lets through only whole, well-formed requests.
 *
 * Looks at the bytes with MSG_PEEK until fcgi_examine has a verdict, so that
 * libfcgi never waits and never sees hostile records (FASTCGI.md 1.3, 2).  A
 * silent, dripping or garbage peer costs a slot here until its deadline and
 * nothing else.
 * Runs in: worker.  Never blocks.  Logs bad peers at debug and counts them.
 */
#ifndef ACCEPTOR_H
#define ACCEPTOR_H

#include <ev.h>
#include <stdint.h>

struct board_slot;
struct acceptor;

/* A whole request waits unread on fd (blocking, CLOEXEC), which is the callee's. */
typedef void acceptor_whole_cb(void *arg, int fd);

/* listen_fd: non-blocking, stays the caller's.  NULL: ENOMEM. */
struct acceptor	*acceptor_new(struct ev_loop *ev, int listen_fd, struct board_slot *slot,
		    acceptor_whole_cb *on_whole, void *arg);
void		 acceptor_stop(struct acceptor *in);	/* accept no more; go on with those accepted */
size_t		 acceptor_count(const struct acceptor *in);	/* connections whose request is not whole yet */
void		 acceptor_free(struct acceptor **inp);

#endif
