/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"

void
fd_close(int *fd)
{
	int	 saved = errno;

	if (*fd != -1)
		(void)close(*fd);	/* EINTR: Linux has closed it all the same */
	*fd = -1;
	errno = saved;
}

int
fd_take(int *fd)
{
	int	 taken = *fd;

	*fd = -1;
	return (taken);
}

int
fd_dup(int fd)
{
	return (fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

bool
fd_without_memory(int error)
{
	return (error == ENOMEM || error == ENOBUFS);
}

bool
fd_try_later(int error)
{
	return (error == EAGAIN || error == EWOULDBLOCK || error == EINTR || fd_without_memory(error));
}

int
fd_nonblock(int fd)
{
	int	 flags;

	if ((flags = fcntl(fd, F_GETFL)) == -1)
		return (-1);
	return (fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1 ? -1 : 0);
}

int
fd_cloexec(int fd)
{
	int	 flags;

	if ((flags = fcntl(fd, F_GETFD)) == -1)
		return (-1);
	return (fcntl(fd, F_SETFD, flags | FD_CLOEXEC) == -1 ? -1 : 0);
}

int
fd_fill_standard(void)
{
	int	 fd;

	do {
		if ((fd = open("/dev/null", O_RDWR)) == -1)
			return (-1);
	} while (fd <= 2);
	(void)close(fd);
	return (0);
}
