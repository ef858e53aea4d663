/*
 * intake - accepts connections and lets through only whole, well-formed requests.
 *
 * Looks at the bytes with MSG_PEEK until fcgi_examine has a verdict, so that
 * libfcgi never waits and never sees hostile records (FASTCGI.md 1.3, 2).  A
 * silent, dripping or garbage peer costs a slot here until its deadline and
 * nothing else.
 * Runs in: worker.  Never blocks.  Logs bad peers at debug and counts them.
 */
#ifndef INTAKE_H
#define INTAKE_H

#include <ev.h>
#include <stdint.h>

struct board_slot;
struct intake;

/* A whole request waits unread on fd (blocking, CLOEXEC), which is the callee's. */
typedef void intake_whole_cb(void *arg, int fd);

/* listen_fd: non-blocking, stays the caller's.  NULL: ENOMEM. */
struct intake	*intake_new(struct ev_loop *ev, int listen_fd, struct board_slot *slot,
		    intake_whole_cb *on_whole, void *arg);
void		 intake_stop(struct intake *in);	/* accept no more; go on with those accepted */
size_t		 intake_count(const struct intake *in);	/* connections whose request is not whole yet */
void		 intake_free(struct intake **inp);

#endif
