/* SPDX-License-Identifier: ISC */
#include <sys/socket.h>

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cred.h"
#include "base/number.h"

static int
find_user(const char *name, uid_t *uid_r)
{
	const struct passwd	*pw = getpwnam(name);
	uint64_t		 number;

	if (pw != NULL)
		*uid_r = pw->pw_uid;
	else if (number_parse(name, strlen(name), 10, UINT32_MAX - 1, &number) == 0)
		*uid_r = (uid_t)number;
	else
		return (-1);
	return (0);
}

int
cred_list(struct cred_list *l, const char *users, char *error_r, size_t size)
{
	char	name[64];
	size_t	len;

	l->n = 0;
	for (; users != NULL && *users != '\0'; users += len + (users[len] == ',')) {
		len = strcspn(users, ",");
		snprintf(name, sizeof(name), "%.*s", len < sizeof(name) ? (int)len : 0, users);
		if (l->n == CRED_MAX) {
			snprintf(error_r, size, "more than %d users", CRED_MAX);
			return (-1);
		}
		if (find_user(name, &l->uids[l->n]) == -1) {
			snprintf(error_r, size, "no such user: %.*s", (int)len, users);
			return (-1);
		}
		l->n++;
	}
	return (0);
}

int
cred_of(int fd, pid_t *pid_r, uid_t *uid_r)
{
	struct ucred	peer;
	socklen_t	len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
		return (-1);
	*pid_r = peer.pid;
	*uid_r = peer.uid;
	return (0);
}

bool
cred_allowed(const struct cred_list *l, uid_t uid)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (l->uids[i] == uid)
			return (true);
	return (uid == 0 || uid == geteuid());
}
