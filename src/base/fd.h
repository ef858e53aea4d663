/* SPDX-License-Identifier: ISC */
/*
 * fd - descriptors whose owner shows in the call.
 *
 * fd_close closes and forgets, fd_take moves: after either the variable is -1.
 * Runs everywhere.  Does not log.
 */
#ifndef FD_H
#define FD_H

#include <stdbool.h>

#define FD_SPARE	64	/* of a process, besides streams: channels, database, log, requests in work */

void	fd_close(int *fd);		/* accepts -1; errno survives */
int	fd_take(int *fd);		/* returns *fd and sets it to -1 */
int	fd_dup(int fd);			/* CLOEXEC; -1: errno */
bool	fd_without_memory(int error);	/* an errno that only means: the system has none for it now */
bool	fd_try_later(int error);	/* an errno of send, recv or accept that only means: not now */
int	fd_nonblock(int fd);		/* -1: errno */
int	fd_cloexec(int fd);		/* -1: errno */

/*
 * Before anything is opened: /dev/null for what is missing of descriptors 0 to 2,
 * so that none of ours ever becomes standard error (FastCGI 1.0, 2.2: a web
 * server starts us with 1 and 2 closed).  -1: errno.
 */
int	fd_fill_standard(void);

#endif
