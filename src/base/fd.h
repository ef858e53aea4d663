/*
 * fd - descriptors whose owner shows in the call.
 *
 * fd_close closes and forgets, fd_take moves: after either the variable is -1.
 * Runs everywhere.  Does not log.
 */
#ifndef FD_H
#define FD_H

#define FD_SPARE	64	/* of a process, besides streams: channels, database, log, requests in work */

void	fd_close(int *fd);		/* accepts -1; errno survives */
int	fd_take(int *fd);		/* returns *fd and sets it to -1 */
int	fd_nonblock(int fd);		/* -1: errno */
int	fd_cloexec(int fd);		/* -1: errno */

#endif
