/* SPDX-License-Identifier: ISC */
/*
 * What does not take a line at once gets none of it, so a line is never half of
 * one.  How that is asked for depends on what standard error is.  O_NONBLOCK is
 * of the open file, which others share (a shell's terminal, a supervisor's pipe),
 * so it is not set on theirs:
 *	a socket (the journal) has MSG_DONTWAIT;
 *	a pipe or terminal is opened anew by /proc, and descriptor 2 becomes that:
 *	  the same pipe, and O_NONBLOCK ours alone;
 *	where that is not allowed (a pipe of another user's), poll(2) says whether
 *	  there is room.  Only another writer in the same moment can then make us
 *	  wait;
 *	a file does not keep anybody.
 * Syslog is spoken here, in the format of syslog(3), since that waits for the
 * daemon, and keeps a descriptor that does not survive fork and closefrom.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mono.h"

#define LOG_LINE	2048	/* a line; longer ones are cut */

static enum log_level	 log_max = LOG_LEVEL_INFO;
static int		 log_to_syslog;
static bool		 log_to_journal;	/* standard error is systemd's journal */
static char		 log_who[128] = "seatcast";
static void		(*log_seen)(void *arg, const char *text);
static void		*log_seen_arg;
static enum { PLAIN, SOCKET, ASK_FIRST } log_stderr;	/* how to write there without waiting */
static int		 log_syslog_fd = -1;
static int64_t		 log_nlost;	/* in all */
static int64_t		 log_unsaid;	/* of them, not yet told of in the log */

static const struct {
	const char	*name;		/* padded: the columns of a log line up */
	int		 priority;
} log_levels[] = {
	[LOG_LEVEL_ERROR]	= { "error", LOG_ERR },
	[LOG_LEVEL_WARN]	= { "warn ", LOG_WARNING },
	[LOG_LEVEL_INFO]	= { "info ", LOG_INFO },
	[LOG_LEVEL_DEBUG]	= { "debug", LOG_DEBUG },
};

/* As JOURNAL_STREAM says, "device:inode", if standard error is still that (systemd.exec(5)). */
static bool
stderr_is_journal(void)
{
	const char	*stream = getenv("JOURNAL_STREAM");
	char		 ours[64];
	struct stat	 st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) == -1)
		return (false);
	snprintf(ours, sizeof(ours), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return (strcmp(stream, ours) == 0);
}

/* A description of the same pipe or terminal that is ours alone, so that O_NONBLOCK is. */
static int
reopen_stderr(void)
{
	int	 fd, rc;

	if ((fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) == -1)
		return (-1);
	rc = dup2(fd, STDERR_FILENO);
	fd_close(&fd);
	return (rc);
}

static void
open_stderr(void)
{
	struct stat	 st;

	log_stderr = PLAIN;
	log_to_journal = stderr_is_journal();
	if (fstat(STDERR_FILENO, &st) == -1)
		return;
	if (S_ISSOCK(st.st_mode))
		log_stderr = SOCKET;
	else if ((S_ISFIFO(st.st_mode) || isatty(STDERR_FILENO)) && reopen_stderr() == -1)
		log_stderr = ASK_FIRST;
}

void
log_open(enum log_level level, int use_syslog)
{
	log_max = level;
	log_to_syslog = use_syslog;
	open_stderr();		/* in any case: must() writes there, and libraries do */
}

void
log_forked(void)
{
	log_syslog_fd = -1;
}

int64_t
log_lost(void)
{
	return (log_nlost);
}

void
log_process(const char *fmt, ...)
{
	va_list	 ap;
	int	 saved = errno;

	va_start(ap, fmt);
	vsnprintf(log_who, sizeof(log_who), fmt, ap);
	va_end(ap);
	errno = saved;
}

void
log_watch(void (*seen)(void *arg, const char *text), void *arg)
{
	log_seen = seen;
	log_seen_arg = arg;
}

/*
 * "2026-11-22T12:00:00.123Z warn  ": what stands before the message.  The journal,
 * which has a clock of its own, wants "<4>" (sd-daemon(3)), and can then be asked
 * for warnings alone; syslog "<28>Nov 22 12:00:00 seatcast[7]: " (RFC 3164).
 */
static size_t
log_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec	 now;
	struct tm	 tm;
	size_t		 len;
	int		 n;

	if (log_to_journal && !log_to_syslog)
		return ((size_t)snprintf(line, size, "<%d>", log_levels[level].priority));
	clock_gettime(CLOCK_REALTIME, &now);
	if (log_to_syslog) {
		localtime_r(&now.tv_sec, &tm);
		len = (size_t)snprintf(line, size, "<%d>", LOG_DAEMON | log_levels[level].priority);
		len += strftime(line + len, size - len, "%h %e %T", &tm);
		return (len + (size_t)snprintf(line + len, size - len, " seatcast[%d]: ", (int)getpid()));
	}
	gmtime_r(&now.tv_sec, &tm);
	len = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(line + len, size - len, ".%03ldZ %s ", now.tv_nsec / 1000000,
	    log_levels[level].name);
	return (len + (size_t)n);
}

/* How much a snprintf that was given size bytes has written, its NUL aside. */
static size_t
written(int n, size_t size)
{
	if (n < 0)
		return (0);
	return ((size_t)n < size ? (size_t)n : size - 1);
}

/* What peers send may be quoted in a message: it must not look like a line of its own. */
static void
tame(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

static bool
syslog_connect(void)
{
	struct sockaddr_un	 sun = { .sun_family = AF_UNIX, .sun_path = _PATH_LOG };

	if (log_syslog_fd != -1)
		return (true);
	if ((log_syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return (false);
	if (connect(log_syslog_fd, (const struct sockaddr *)&sun, sizeof(sun)) == -1)
		fd_close(&log_syslog_fd);
	return (log_syslog_fd != -1);
}

/* A daemon that was restarted has another socket: connect anew once. */
static bool
to_syslog(const char *line, size_t len)
{
	int	 tries;

	for (tries = 0; tries < 2 && syslog_connect(); tries++) {
		if (send(log_syslog_fd, line, len, MSG_NOSIGNAL) != -1)
			return (true);
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
			break;
		fd_close(&log_syslog_fd);
	}
	return (false);
}

static bool
to_stderr(const char *line, size_t len)
{
	struct pollfd	 room = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (log_stderr == SOCKET)
		return (send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) != -1);
	if (log_stderr == ASK_FIRST && poll(&room, 1, 0) != 1)
		return (false);
	return (write(STDERR_FILENO, line, len) != -1);
}

/* text ("worker: what happened"), with what stands before it and the newline: false if nobody takes it now. */
static bool
log_out(enum log_level level, const char *text)
{
	char	 line[LOG_LINE];
	size_t	 len;

	len = log_prefix(line, sizeof(line), level);
	len += written(snprintf(line + len, sizeof(line) - len, "%s%s", text, log_to_syslog ? "" : "\n"),
	    sizeof(line) - len);
	return (log_to_syslog ? to_syslog(line, len) : to_stderr(line, len));
}

/* Before the first line that may go out again: how many did not. */
static bool
say_lost(void)
{
	char	 text[LOG_LINE];

	if (log_unsaid == 0)
		return (true);
	snprintf(text, sizeof(text), "%s: log: %lld lines before this one are lost: nobody took them", log_who,
	    (long long)log_unsaid);
	if (!log_out(LOG_LEVEL_WARN, text))
		return (false);
	log_unsaid = 0;
	return (true);
}

static void
log_line(enum log_level level, int error, const char *fmt, va_list ap)
{
	char	 text[LOG_LINE];
	size_t	 len, room = sizeof(text) - 64;	/* for time and level: the whole is at most PIPE_BUF, written at once or not */
	int	 saved = errno;

	if (level > log_max)
		return;
	len = written(snprintf(text, room, "%s: ", log_who), room);
	len += written(vsnprintf(text + len, room - len, fmt, ap), room - len);
	if (error != 0)
		snprintf(text + len, room - len, ": %s", strerror(error));
	tame(text);
	if (level <= LOG_LEVEL_WARN && log_seen != NULL)
		log_seen(log_seen_arg, text);
	if (!say_lost() || !log_out(level, text)) {
		log_nlost++;
		log_unsaid++;
	}
	errno = saved;
}

#define LOG_WITH(level, error) do {		\
	va_list	 ap;				\
						\
	va_start(ap, fmt);			\
	log_line((level), (error), fmt, ap);	\
	va_end(ap);				\
} while (0)

void
log_warn(const char *fmt, ...)
{
	LOG_WITH(LOG_LEVEL_WARN, errno);
}

void
log_warnx(const char *fmt, ...)
{
	LOG_WITH(LOG_LEVEL_WARN, 0);
}

void
log_warnx_seldom(struct log_seldom *s, const char *fmt, ...)
{
	int64_t	 now = mono_ms();
	char	 text[LOG_LINE];
	va_list	 ap;

	if (now < s->until_ms) {
		s->held++;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (s->held != 0)
		log_warnx("%s (and %u more like it since the last such line)", text, s->held);
	else
		log_warnx("%s", text);
	s->held = 0;
	s->until_ms = now + LOG_SELDOM_MS;
}

void
log_info(const char *fmt, ...)
{
	LOG_WITH(LOG_LEVEL_INFO, 0);
}

void
log_debug(const char *fmt, ...)
{
	LOG_WITH(LOG_LEVEL_DEBUG, 0);
}

void
fatal(const char *fmt, ...)
{
	LOG_WITH(LOG_LEVEL_ERROR, errno);
	exit(1);
}

void
fatalx(const char *fmt, ...)
{
	LOG_WITH(LOG_LEVEL_ERROR, 0);
	exit(1);
}
