#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/listener.h"
#include "base/must.h"

/* The files of our unix sockets: somebody else may have replaced one meanwhile. */
static struct bound {
	dev_t	dev;
	ino_t	ino;
} bound[2];
static size_t nbound;

static bool
is_path(const char *address)
{
	return (strchr(address, '/') != NULL);
}

static void
note_bound(const char *path)
{
	struct stat st;

	must(nbound < nitems(bound));
	if (lstat(path, &st) == 0)
		bound[nbound++] = (struct bound){ st.st_dev, st.st_ino };
}

static bool
is_bound(const char *path)
{
	struct stat	st;
	size_t		i;

	if (lstat(path, &st) == -1)
		return (false);
	for (i = 0; i < nbound; i++)
		if (bound[i].dev == st.st_dev && bound[i].ino == st.st_ino)
			return (true);
	return (false);
}

static int
fail(char *error_r, size_t size, const char *address, const char *what)
{
	snprintf(error_r, size, "%s: %s", address, what);
	return (-1);
}

/* Does somebody answer at the socket?  A file nobody listens on is left over from a crash. */
static bool
is_served(const struct sockaddr_un *sun, int type)
{
	int	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool	served;

	served = fd != -1 && (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 || errno == EAGAIN);
	fd_close(&fd);
	return (served);
}

static int
open_unix(const char *path, int type, mode_t mode, char *error_r, size_t size)
{
	struct sockaddr_un	sun;
	struct stat		st;
	mode_t			before;
	int			fd;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sun.sun_path))
		return (fail(error_r, size, path, "the path is longer than a unix socket's may be (107 bytes)"));
	strcpy(sun.sun_path, path);
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return (fail(error_r, size, path, "exists and is not a socket"));
		if (is_served(&sun, type))
			return (fail(error_r, size, path, "another process serves there: end it first"));
		(void)unlink(path);
	}
	if ((fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return (fail(error_r, size, path, strerror(errno)));
	before = umask(0777);		/* nobody connects before it has its mode */
	if (bind(fd, (const struct sockaddr *)&sun, sizeof(sun)) == -1) {
		fail(error_r, size, path, strerror(errno));
		umask(before);
		fd_close(&fd);
		return (-1);
	}
	umask(before);
	note_bound(path);
	if (chmod(path, mode) == -1 || listen(fd, LISTENER_BACKLOG) == -1) {
		fail(error_r, size, path, strerror(errno));
		fd_close(&fd);
	}
	return (fd);
}

/* "HOST:PORT", "[HOST]:PORT", ":PORT" into its parts.  -1: it is none of them. */
static int
split(const char *address, char *host, size_t size, const char **port_r)
{
	const char	*colon = strrchr(address, ':');
	size_t		 len;

	if (colon == NULL || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return (-1);
	if (strlen(colon + 1) > 5 || atoi(colon + 1) < 1 || atoi(colon + 1) > 65535)
		return (-1);
	len = (size_t)(colon - address);
	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	} else if (memchr(address, ':', len) != NULL)
		return (-1);
	if (len >= size)
		return (-1);
	memcpy(host, address, len);
	host[len] = '\0';
	*port_r = colon + 1;
	return (0);
}

static int
open_tcp(const char *address, char *error_r, size_t size)
{
	struct addrinfo	 hints, *list, *ai;
	const char	*port;
	char		 host[256];
	int		 fd = -1, rc, on = 1;

	if (split(address, host, sizeof(host), &port) == -1)
		return (fail(error_r, size, address, "not a path with a '/', HOST:PORT, [HOST]:PORT or :PORT with a port from 1 to 65535"));
	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	/* without a host: loopback; FastCGI has no authentication and is for the web server alone */
	if ((rc = getaddrinfo(host[0] != '\0' ? host : "127.0.0.1", port, &hints, &list)) != 0)
		return (fail(error_r, size, address, gai_strerror(rc)));
	for (ai = list; ai != NULL && fd == -1; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
		if (fd != -1 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
		    bind(fd, ai->ai_addr, ai->ai_addrlen) == -1 || listen(fd, LISTENER_BACKLOG) == -1))
			fd_close(&fd);
	}
	freeaddrinfo(list);
	if (fd == -1)
		return (fail(error_r, size, address, strerror(errno)));
	return (fd);
}

int
listener_open(const char *address, mode_t mode, char *error_r, size_t size)
{
	return (is_path(address) ? open_unix(address, SOCK_STREAM, mode, error_r, size) :
	    open_tcp(address, error_r, size));
}

int
listener_open_control(const char *path, mode_t mode, char *error_r, size_t size)
{
	return (open_unix(path, SOCK_SEQPACKET, mode, error_r, size));
}

int
listener_inherited(char *error_r, size_t size)
{
	int		on = 0;
	socklen_t	len = sizeof(on);

	if (getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == -1 || !on) {
		snprintf(error_r, size, "no listening socket: descriptor 0 is none and --listen is not given "
		    "(try --listen /run/seatcast/fcgi.sock)");
		return (-1);
	}
	if (fd_nonblock(0) == -1) {
		snprintf(error_r, size, "descriptor 0: %s", strerror(errno));
		return (-1);
	}
	return (0);
}

void
listener_close(int *fd, const char *address)
{
	fd_close(fd);
	if (address != NULL && is_path(address) && is_bound(address))
		(void)unlink(address);
}
