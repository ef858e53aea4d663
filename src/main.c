/*
 * main - options, what the system allows, the listening socket; then the master.
 */
#include <sys/resource.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fd.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/title.h"
#include "checkup.h"
#include "config.h"
#include "shared/db.h"
#include "shared/inherit.h"

#define EXIT_USAGE	2

static int
usage_error(const char *option, const char *why)
{
	fprintf(stderr, "seatcast: %s%s%s\n", option, option[0] != '\0' ? ": " : "", why);
	return (EXIT_USAGE);
}

/* As many descriptors as we may have; streams that would not fit are not promised. */
static void
fit_descriptors(struct opts *o)
{
	struct rlimit	rl;
	long		fits;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		return;
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) == -1 || getrlimit(RLIMIT_NOFILE, &rl) == -1 ||
	    rl.rlim_cur == RLIM_INFINITY || rl.rlim_cur > 2000000)
		return;
	fits = (long)rl.rlim_cur > 2 * FD_SPARE ? (long)rl.rlim_cur - FD_SPARE : FD_SPARE;
	if (o->max_streams > fits) {
		log_warnx("--max-streams %ld lowered to %ld: a process may open %ld files here; "
		    "raise the limit (LimitNOFILE, ulimit -Hn)", o->max_streams, fits, (long)rl.rlim_cur);
		o->max_streams = fits;
	}
}

int
main(int argc, char **argv)
{
	struct opts	opts;
	char		error[512];
	int		listen_fd = 0, control_fd = -1;

	title_init(argc, argv);
	switch (opts_parse(&opts, argc, argv, error, sizeof(error))) {
	case OPTS_HELP:
		opts_help(stdout);
		return (0);
	case OPTS_VERSION:
		puts("seatcast " PACKAGE_VERSION);
		return (0);
	case OPTS_BAD:
		return (usage_error("", error));
	case OPTS_RUN:
		break;
	}
	if (opts.database != NULL && !db_conninfo_ok(opts.database))
		return (usage_error("--database", "nothing that libpq can read (not shown, as there may be a password in it): write "
		    "\"host=... dbname=... user=...\", with '' around a value that has spaces, or a URI in which @ is %40 and / is %2F"));
	tzset();		/* before any fork, and once: syslog */
	log_open(opts.log_level, opts.log_target == OPTS_SYSLOG);
	if (opts.check)
		return (check_main(&opts));
	if (opts.join != NULL && (opts.listen != NULL || opts.control != NULL))
		return (usage_error("--join", "a worker that joins has neither --listen nor --control"));
	if (opts.start && opts.join == NULL)
		return (usage_error("--start", "goes with --join"));
	if (opts.listen != NULL)
		listen_fd = listener_open(opts.listen, (mode_t)opts.listen_mode, error, sizeof(error));
	else if (listener_inherited(error, sizeof(error)) == -1)
		listen_fd = -1;
	if (listen_fd == -1 && (opts.control == NULL || opts.listen != NULL))
		return (usage_error(opts.listen != NULL ? "--listen" : "", error));
	if (opts.control != NULL && (control_fd = listener_open_control(opts.control,
	    (mode_t)opts.listen_mode, error, sizeof(error))) == -1) {
		listener_close(&listen_fd, opts.listen);
		return (usage_error("--control", error));
	}
	fit_descriptors(&opts);
	if (opts.join == NULL)
		check_at_start(&opts);
	return (opts.join != NULL ? join_main(&opts) : master_main(&opts, listen_fd, control_fd));
}
