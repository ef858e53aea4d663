/* SPDX-License-Identifier: ISC */
/*
 * answer - the bytes of a worker's answer, on their way to the web server.
 *
 * Sent at once as far as the socket takes them.  What is left waits here as a chunk
 * and an offset, with a watcher and a deadline: a browser that reads slowly, or a
 * web server that has stopped, costs a little memory and nobody's time.
 * Runs in: worker.  Never blocks.  Owns every descriptor given to it.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include <ev.h>
#include <stddef.h>
#include <stdint.h>

struct answers;
struct board_slot;
struct buf;

struct answers	*answers_new(struct ev_loop *ev, struct board_slot *slot);	/* NULL: ENOMEM */
void		 answers_free(struct answers **ap);	/* closes what is left */
size_t		 answers_count(const struct answers *a);	/* not through yet */

/*
 * Answer request_id on fd with what is in cgi (header and body, as CGI has them), and
 * close.  Empties cgi.  Without memory, here or before in cgi, it is a refusal, or silence: `event: busy` for who
 * takes a stream, whose header lines of http_cors() are stream_cors then, else (NULL) 503.
 */
void		 answers_send(struct answers *a, int fd, uint16_t request_id, const char *stream_cors, struct buf *cgi);
/* The same for a request that was not read to its end: its peer may still be sending. */
void		 answers_send_early(struct answers *a, int fd, uint16_t request_id, const char *stream_cors, struct buf *cgi);
/* For such a one, too: only the end of the request, with this protocol status (fcgi.h). */
void		 answers_end(struct answers *a, int fd, uint16_t request_id, uint8_t protocol_status);

#endif
