/*
 * log - one line per event an operator or a developer wants to know.
 *
 * Each line: time, level, process ("loop 1/101"), then "subject: event: reason".
 * warn is for something an operator can act on, info the life of processes and
 * of the database, debug single viewers.  One write(2) per line, so lines of
 * several processes never mix.  errno survives every call.  fatal ends this
 * process with status 1 after logging.
 * Runs everywhere.  May block only as long as stderr or syslog does.
 */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void	log_open(enum log_level level, int use_syslog);
void	log_process(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* who we are, from now on */

/* Each warning and error is also told to seen, as "process: message": for whoever keeps the last one. */
void	log_watch(void (*seen)(void *arg, const char *text), void *arg);

void	log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* adds strerror(errno) */
void	log_warnx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void	fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));	/* adds strerror(errno) */
void	fatalx(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
