/* SPDX-License-Identifier: ISC */
/*
 * cred - who is at the other end of a unix socket, and whether he may be.
 *
 * The kernel says who connected (SO_PEERCRED, unix(7)); a list says who may.
 * Our own user and root always may.
 * Runs in: main, master.  Logs nothing.  Blocks for the user database in cred_list only.
 */
#ifndef CRED_H
#define CRED_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#define CRED_MAX	16

struct cred_list {
	size_t	n;
	uid_t	uids[CRED_MAX];
};

/* "www-data,33": names or numbers; NULL: nobody else.  -1: error_r says which is none. */
int	cred_list(struct cred_list *l, const char *users, char *error_r, size_t size);

/* -1: the kernel does not say.  pid_r and uid_r are who connected fd, or made its pair. */
int	cred_of(int fd, pid_t *pid_r, uid_t *uid_r);
bool	cred_allowed(const struct cred_list *l, uid_t uid);

#endif
