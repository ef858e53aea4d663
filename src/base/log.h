/* SPDX-License-Identifier: ISC */
/*
 * log - one line per event an operator or a developer wants to know.
 *
 * Each line: time, level, process ("loop 1/101"), then "subject: event: reason".
 * warn is for something an operator can act on, info the life of processes and
 * of the database, debug single viewers.  One write(2) per line, so lines of
 * several processes never mix.  errno survives every call.  fatal ends this
 * process with status 1 after logging.
 * Runs everywhere.  Never blocks: a line that standard error or syslog does not
 * take at once is lost and counted, and the next one that goes out says how many.
 */
#ifndef LOG_H
#define LOG_H

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void	log_open(enum log_level level, int use_syslog);
void	log_forked(void);	/* in a child that has closed what its parent had: the connection to syslog is gone */
void	log_process(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* who we are, from now on */

/* Each warning and error is also told to seen, as "process: message": for whoever keeps the last one. */
void	log_watch(void (*seen)(void *arg, const char *text), void *arg);

int64_t	log_lost(void);		/* lines of this process that nobody took */

/*
 * The same cause again and again is one line each LOG_SELDOM_MS, which says how
 * often it was seen since the last.  One of these per cause, all 0 at first.
 */
#define LOG_SELDOM_MS	10000
struct log_seldom {
	int64_t	 until_ms;
	unsigned held;
};
void	log_warnx_seldom(struct log_seldom *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void	log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* adds strerror(errno) */
void	log_warnx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));	/* adds strerror(errno) */
void	fatalx(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
