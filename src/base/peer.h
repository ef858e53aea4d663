/* SPDX-License-Identifier: ISC */
/*
 * peer - who is at the other end of a unix socket, and whether he may be.
 *
 * The kernel says who connected (SO_PEERCRED, unix(7)); a list says who may.
 * Our own user and root always may.
 * Runs in: main, master.  Logs nothing.  Blocks for the user database in peer_list only.
 */
#ifndef PEER_H
#define PEER_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#define PEER_MAX	16

struct peer_list {
	size_t	n;
	uid_t	uids[PEER_MAX];
};

/* "www-data,33": names or numbers; NULL: nobody else.  -1: error_r says which is none. */
int	peer_list(struct peer_list *l, const char *users, char *error_r, size_t size);

/* -1: the kernel does not say.  pid_r and uid_r are who connected fd, or made its pair. */
int	peer_of(int fd, pid_t *pid_r, uid_t *uid_r);
bool	peer_allowed(const struct peer_list *l, uid_t uid);

#endif
