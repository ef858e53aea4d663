/* SPDX-License-Identifier: ISC */
/*
 * A path has one owner at a time: who holds PATH.lock (flock(2)), from its start
 * until it drains or ends.  Who waits to be its successor need not wait for the
 * end of the drain: "draining" in the lock says that the socket may be replaced.
 * It is made beside its place and renamed over it, so at each moment somebody
 * listens at the path, and nobody connects before it has its mode.
 */
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/listener.h"
#include "base/must.h"

#define NEW_SUFFIX	".new"
#define LOCK_BYTES	128
#define DRAINING	"draining\n"
#define STARTING_MS	1000	/* from the lock to listening */
#define STARTING_LOOKS	20
#define SERVED		"another process serves there: end it first"

/* Our unix sockets, with what proves that a file is still ours. */
static struct bound {
	char	path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	dev_t	dev;
	ino_t	ino;
	int	lock;		/* of PATH.lock; -1: given up, a successor may have it */
} bound[2];
static size_t nbound;

static bool
is_path(const char *address)
{
	return (strchr(address, '/') != NULL);
}

static struct bound *
find_bound(const char *address)
{
	size_t i;

	for (i = nbound; address != NULL && i > 0; i--)
		if (strcmp(bound[i - 1].path, address) == 0)
			return (&bound[i - 1]);
	return (NULL);
}

static int
fail(char *error_r, size_t size, const char *address, const char *what)
{
	snprintf(error_r, size, "%s: %s", address, what);
	return (-1);
}

/* --- the lock: who may put a socket at a path ---------------------------------- */

static void
lock_name(char out[LOCK_BYTES], const char *path)
{
	snprintf(out, LOCK_BYTES, "%s.lock", path);
}

/* Is that what has this name?  1, 0, or -1: the system does not say. */
static int
is_file(int fd, const char *name)
{
	struct stat	ours, there;

	if (fstat(fd, &ours) == -1)
		return (-1);
	if (lstat(name, &there) == -1)
		return (errno == ENOENT ? 0 : -1);
	return (ours.st_dev == there.st_dev && ours.st_ino == there.st_ino);
}

int
listener_lock(const char *path)
{
	char	name[LOCK_BYTES];
	int	fd, is;

	lock_name(name, path);
	for (;;) {
		if ((fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) == -1)
			return (-1);
		if (flock(fd, LOCK_EX | LOCK_NB) == -1) {
			fd_close(&fd);
			return (-1);
		}
		if ((is = is_file(fd, name)) == 1)
			return (fd);
		fd_close(&fd);
		if (is == -1)
			return (-1);
		/* it was removed by who had it until now */
	}
}

static void
unlock(int *fd, const char *path)
{
	char	name[LOCK_BYTES];

	lock_name(name, path);
	if (*fd != -1 && is_file(*fd, name) == 1)
		(void)unlink(name);
	fd_close(fd);
}

static bool
lock_says_draining(int fd)
{
	char	text[sizeof(DRAINING)] = "";

	return (fd != -1 && pread(fd, text, sizeof(text) - 1, 0) > 0 && strcmp(text, DRAINING) == 0);
}

static void
lock_say(int fd, const char *text)
{
	if (fd == -1 || ftruncate(fd, 0) == -1 || pwrite(fd, text, strlen(text), 0) == -1) {
		/* only people read the pid, and without the word a successor waits for our end */
	}
}

/* --- unix sockets ------------------------------------------------------------ */

/* Is somebody there?  A file nobody listens on is left over from a crash. */
static bool
is_served(const struct sockaddr_un *sun, int type)
{
	int	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool	served;

	served = fd == -1 || connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 ||
	    (errno != ECONNREFUSED && errno != ENOENT);	/* also one that we may not connect to, or of another type */
	fd_close(&fd);
	return (served);
}

/* A socket at path, already listening and with its mode, in the place of what was there.  -1: errno. */
static int
put_socket(const char *path, int type, mode_t mode)
{
	struct sockaddr_un	sun = { .sun_family = AF_UNIX };
	mode_t			before;
	int			fd, rc, saved;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s" NEW_SUFFIX, path);
	if ((fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return (-1);
	(void)unlink(sun.sun_path);	/* of a start that was killed: the lock is ours */
	before = umask(0777);
	rc = bind(fd, (const struct sockaddr *)&sun, sizeof(sun));
	umask(before);
	if (rc == -1) {
		fd_close(&fd);
		return (-1);
	}
	if (chmod(sun.sun_path, mode) == -1 || listen(fd, LISTENER_BACKLOG) == -1 || rename(sun.sun_path, path) == -1) {
		saved = errno;
		(void)unlink(sun.sun_path);
		fd_close(&fd);
		errno = saved;
	}
	return (fd);
}

/*
 * The lock of a path.  Who has it may be about to listen: wait until he does.  -1
 * with ENOENT: he has it, and no socket any more; somebody removed the file, so
 * that another could take his place.
 */
static int
wait_for_lock(const struct sockaddr_un *sun, int type)
{
	const struct timespec	 pause = { 0, STARTING_MS * 1000000L / STARTING_LOOKS };
	struct stat		 st;
	int			 fd, i;

	for (i = 0; (fd = listener_lock(sun->sun_path)) == -1 && errno == EWOULDBLOCK && i < STARTING_LOOKS; i++) {
		if (lstat(sun->sun_path, &st) == 0 && is_served(sun, type)) {
			errno = EWOULDBLOCK;
			return (-1);
		}
		nanosleep(&pause, NULL);
	}
	if (fd == -1 && errno == EWOULDBLOCK && lstat(sun->sun_path, &st) == 0)
		errno = EWOULDBLOCK;
	return (fd);
}

/* lock: -1, or that of PATH.lock, which the caller has. */
static int
open_unix(const char *path, int type, mode_t mode, int lock, char *error_r, size_t size)
{
	struct sockaddr_un	sun = { .sun_family = AF_UNIX };
	struct bound		*b = &bound[nbound];
	struct stat		st;
	char			pid[32];
	int			fd = -1;

	must(nbound < nitems(bound));
	if (strlen(path) + strlen(NEW_SUFFIX) >= sizeof(sun.sun_path))
		return (fail(error_r, size, path, "the path is longer than a unix socket's may be (103 bytes)"));
	strcpy(sun.sun_path, path);
	if (lock == -1 && (lock = wait_for_lock(&sun, type)) == -1 && errno != ENOENT)
		return (fail(error_r, size, path, errno == EWOULDBLOCK ? SERVED : strerror(errno)));
	if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		fail(error_r, size, path, "exists and is not a socket");
	else if (is_served(&sun, type) && !lock_says_draining(lock))
		fail(error_r, size, path, SERVED);
	else if ((fd = put_socket(path, type, mode)) == -1 || lstat(path, &st) == -1)
		fail(error_r, size, path, strerror(errno));
	if (fd == -1) {
		unlock(&lock, path);
		return (-1);
	}
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	lock_say(lock, pid);
	strcpy(b->path, path);
	b->dev = st.st_dev;
	b->ino = st.st_ino;
	b->lock = lock;
	nbound++;
	return (fd);
}

/* --- TCP ----------------------------------------------------------------------- */

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

	if (address[0] == '*')
		return (fail(error_r, size, address, "write 0.0.0.0:PORT or [::]:PORT for all addresses, :PORT for this machine alone"));
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
	return (is_path(address) ? open_unix(address, SOCK_STREAM, mode, -1, error_r, size) :
	    open_tcp(address, error_r, size));
}

int
listener_open_control(const char *path, mode_t mode, int lock, char *error_r, size_t size)
{
	return (open_unix(path, SOCK_SEQPACKET, mode, lock, error_r, size));
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
listener_leave(const char *address)
{
	struct bound *b = find_bound(address);

	if (b == NULL || b->lock == -1)
		return;
	lock_say(b->lock, DRAINING);
	fd_close(&b->lock);
}

bool
listener_succeeded(const char *address)
{
	const struct bound	*b = find_bound(address);
	struct stat		 st;

	return (b != NULL && b->lock == -1 && lstat(b->path, &st) == 0 && (st.st_dev != b->dev || st.st_ino != b->ino));
}

/* Whoever has the lock meanwhile has made a socket of his own there, or is about to. */
void
listener_close(int *fd, const char *address)
{
	struct bound	*b = find_bound(address);
	struct stat	 st;

	if (b != NULL && (b->lock != -1 || (b->lock = listener_lock(b->path)) != -1)) {
		if (lstat(b->path, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino)
			(void)unlink(b->path);
		unlock(&b->lock, b->path);
	}
	if (b != NULL)
		*b = bound[--nbound];
	fd_close(fd);
}
