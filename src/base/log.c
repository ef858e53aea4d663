#include <sys/stat.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define LOG_LINE	2048	/* a line; longer ones are cut */

static enum log_level	 log_max = LOG_LEVEL_INFO;
static int		 log_to_syslog;
static bool		 log_to_journal;	/* standard error is systemd's journal */
static char		 log_who[128] = "seatcast";
static void		(*log_seen)(void *arg, const char *text);
static void		*log_seen_arg;

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

void
log_open(enum log_level level, int use_syslog)
{
	log_max = level;
	log_to_syslog = use_syslog;
	log_to_journal = stderr_is_journal();
	if (use_syslog)
		openlog("seatcast", LOG_PID, LOG_DAEMON);
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
 * for warnings alone.
 */
static size_t
log_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec	 now;
	struct tm	 tm;
	size_t		 len;
	int		 n;

	if (log_to_journal)
		return ((size_t)snprintf(line, size, "<%d>", log_levels[level].priority));
	clock_gettime(CLOCK_REALTIME, &now);
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

static void
log_line(enum log_level level, int error, const char *fmt, va_list ap)
{
	char	 line[LOG_LINE];
	size_t	 start = 0, len, room = sizeof(line) - 1;	/* one for the newline */
	int	 saved = errno;

	if (level > log_max)
		return;
	if (!log_to_syslog)
		start = log_prefix(line, room, level);
	len = start;
	len += written(snprintf(line + len, room - len, "%s: ", log_who), room - len);
	len += written(vsnprintf(line + len, room - len, fmt, ap), room - len);
	if (error != 0)
		len += written(snprintf(line + len, room - len, ": %s", strerror(error)),
		    room - len);
	tame(line);
	if (level <= LOG_LEVEL_WARN && log_seen != NULL)
		log_seen(log_seen_arg, line + start);
	if (log_to_syslog)
		syslog(log_levels[level].priority, "%s", line);
	else {
		line[len++] = '\n';
		if (write(STDERR_FILENO, line, len) == -1) {
			/* There is nobody left to tell. */
		}
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
