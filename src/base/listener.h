/* SPDX-License-Identifier: ISC */
/*
 * listener - the FastCGI listening socket: given on descriptor 0, or made here.
 *
 * A unix socket's path belongs to who holds PATH.lock.  A socket left behind by a
 * crash is replaced, one where somebody listens is not, unless he is draining.
 * What is still ours is removed at the end.
 * Runs in: main, before the first fork; the master leaves and closes.  Blocks for
 * name resolution, and for a moment while somebody else starts on the path.  Logs nothing.
 */
#ifndef LISTENER_H
#define LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LISTENER_BACKLOG	4096	/* a full backlog is an instant 500 in lighttpd: FASTCGI.md 3.7 */

/*
 * address: "PATH" (with a '/'), "HOST:PORT", "[HOST]:PORT" or ":PORT" (loopback).
 * Returns the descriptor, non-blocking and CLOEXEC; -1: error_r says what to do.
 */
int	listener_open(const char *address, mode_t mode, char *error_r, size_t size);

/* A unix SOCK_SEQPACKET socket at path, for workers that join.  As listener_open.  lock: of listener_lock, taken over; -1: none yet. */
int	listener_open_control(const char *path, mode_t mode, int lock, char *error_r, size_t size);

/* The lock of a path.  -1: errno, EWOULDBLOCK: somebody has it. */
int	listener_lock(const char *path);

/* We drain: whoever starts now may take over the path.  Who connected before is still ours. */
void	listener_leave(const char *address);
bool	listener_succeeded(const char *address);	/* somebody has */

/* Descriptor 0, made non-blocking.  0; -1: it is no listening socket, error_r says what to do. */
int	listener_inherited(char *error_r, size_t size);

/* Close; remove the socket's file if address is a unix socket's, and the file still ours. */
void	listener_close(int *fd, const char *address);

#endif
