/* SPDX-License-Identifier: ISC */
/*
 * main - options, what the system allows, the sockets; then the process that was
 * asked for: the master, a worker that joins one, or --check.
 *
 * Descriptors 0 to 2 exist before anything is opened.  Wrong options end here
 * with one line on standard error and status 2.  Runs once, and blocks for the
 * name of a host in --listen.  The sockets are the master's from here.
 */
#include <sys/resource.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/confine.h"
#include "base/cred.h"
#include "base/fd.h"
#include "base/listener.h"
#include "base/log.h"
#include "base/must.h"
#include "base/opts.h"
#include "base/title.h"
#include "checkup.h"
#include "commit.h"
#include "config.h"
#include "shared/conninfo.h"
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

/* Those that nobody here waits for, and whose default is the end of the process. */
static void
ignore_signals(void)
{
	static const int useless[] = { SIGHUP, SIGPIPE, SIGUSR2, SIGALRM };
	size_t		 i;

	for (i = 0; i < nitems(useless); i++)
		signal(useless[i], SIG_IGN);
}

/* Options that contradict each other or the system.  0, or the exit status. */
static int
check_together(const struct opts *o)
{
	struct cred_list	peers;
	char			error[256];

	if (o->join != NULL && (o->listen != NULL || o->control != NULL))
		return (usage_error("--join", "a worker that joins has neither --listen nor --control"));
	if (o->start && o->join == NULL)
		return (usage_error("--start", "goes with --join"));
	if (cred_list(&peers, o->control_user, error, sizeof(error)) == -1)
		return (usage_error("--control-user", error));
	return (0);
}

/* Where requests come, and where workers join; -1: nowhere.  0, or the exit status. */
static int
open_sockets(const struct opts *o, int *listen_r, int *control_r)
{
	char	error[512];
	mode_t	mode = (mode_t)o->listen_mode;

	*control_r = -1;
	if (o->listen != NULL)
		*listen_r = listener_open(o->listen, mode, error, sizeof(error));
	else
		*listen_r = listener_inherited(error, sizeof(error));
	if (*listen_r == -1 && (o->control == NULL || o->listen != NULL))
		return (usage_error(o->listen != NULL ? "--listen" : "", error));
	if (o->control != NULL && (*control_r = listener_open_control(o->control, mode, -1, error, sizeof(error))) == -1) {
		listener_close(listen_r, o->listen);
		return (usage_error("--control", error));
	}
	return (0);
}

int
main(int argc, char **argv)
{
	struct opts	opts;
	char		error[512];
	int		listen_fd, control_fd, status;

	if (fd_fill_standard() == -1)
		return (1);
	title_init(argc, argv);
	switch (opts_parse(&opts, argc, argv, error, sizeof(error))) {
	case OPTS_HELP:
		opts_help(stdout);
		return (0);
	case OPTS_VERSION:
		puts("seatcast " PACKAGE_VERSION " (" SEATCAST_COMMIT ")");
		return (0);
	case OPTS_BAD:
		return (usage_error("", error));
	case OPTS_RUN:
		break;
	}
	title_set("%s", opts.check ? "check" : "starting");	/* the command line may hold a password */
	if (opts.database != NULL && !conninfo_ok(opts.database))
		return (usage_error("--database", "nothing that libpq can read (not shown, as there may be a password in it): write "
		    "\"host=... dbname=... user=...\", with '' around a value that has spaces, or a URI in which @ is %40 and / is %2F"));
	tzset();		/* before any fork, and once: syslog */
	conninfo_prepare();	/* the same: name services */
	log_open(opts.log_level, opts.log_target == OPTS_SYSLOG);
	if (opts.check)
		return (check_main(&opts));
	if (!opts.unconfined)
		confine_start(conninfo_has_password(opts.database));
	ignore_signals();
	if ((status = check_together(&opts)) != 0 || (status = open_sockets(&opts, &listen_fd, &control_fd)) != 0)
		return (status);
	fit_descriptors(&opts);
	if (opts.join == NULL)
		check_at_start(&opts);
	return (opts.join != NULL ? join_main(&opts) : master_main(&opts, listen_fd, control_fd));
}
