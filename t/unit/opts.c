/* SPDX-License-Identifier: ISC */
/*
 * opts: what argv and the environment make of the table, and every complaint.
 */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opts.h"
#include "unit.h"

#define MAX_ARGS	6

static const char *const variables[] = {
#define OPT(field, name, TYPE, def, min, max, metavar, text)	#field,
#include "base/opts_tbl.h"
#undef OPT
};

/* No variable of the machine that runs the tests counts. */
static void
clean_environment(void)
{
	extern char	**environ;
	char		  name[128];
	char		**e = environ;

	while (e != NULL && *e != NULL) {
		if (strncmp(*e, "SEATCAST_", 9) == 0 && strcspn(*e, "=") < sizeof(name)) {
			snprintf(name, sizeof(name), "%.*s", (int)strcspn(*e, "="), *e);
			unsetenv(name);
			e = environ;
		} else
			e++;
	}
}

/* args up to NULL; each "NAME=value" of env up to NULL is set. */
static enum opts_result
parse(struct opts *o, const char *const *args, const char *const *env, char *error, size_t size)
{
	char	 name[64], *argv[MAX_ARGS + 2];
	char	 copies[MAX_ARGS + 1][64];
	int	 argc = 0;

	clean_environment();
	for (; *env != NULL; env++) {
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*env, "="), *env);
		ck_assert_int_eq(setenv(name, strchr(*env, '=') + 1, 1), 0);
	}
	snprintf(copies[argc], sizeof(copies[argc]), "seatcast");
	argv[argc] = copies[argc];
	for (argc = 1; *args != NULL; args++, argc++) {
		snprintf(copies[argc], sizeof(copies[argc]), "%s", *args);
		argv[argc] = copies[argc];
	}
	argv[argc] = NULL;
	return (opts_parse(o, argc, argv, error, size));
}

START_TEST(defaults_are_those_of_the_specification)
{
	static const char *const	 none[] = { NULL };
	struct opts			 o;
	char				 error[256];

	ck_assert_int_eq(parse(&o, none, none, error, sizeof(error)), OPTS_RUN);
	ck_assert_str_eq(error, "");
	ck_assert_ptr_null(o.listen);
	ck_assert_int_eq(o.listen_mode, 0660);
	ck_assert_ptr_null(o.database);
	ck_assert_int_eq(o.poll_interval_ms, 1000);
	ck_assert_int_eq(o.reconcile_interval_ms, 10000);
	ck_assert_int_eq(o.workers, 4);
	ck_assert_ptr_null(o.control);
	ck_assert_ptr_null(o.join);
	ck_assert_int_eq(o.max_groups, 64);
	ck_assert_int_eq(o.max_streams, 10000);
	ck_assert_int_eq(o.linger_ms, 30000);
	ck_assert_int_eq(o.heartbeat_ms, 15000);
	ck_assert_int_eq(o.stall_timeout_ms, 60000);
	ck_assert_int_eq(o.hold_duration_ms, 300000);
	ck_assert_int_eq(o.drain_timeout_ms, 10000);
	ck_assert_int_eq(o.log_level, LOG_LEVEL_INFO);
	ck_assert_int_eq(o.log_target, OPTS_STDERR);
	ck_assert_int_eq(o.check, 0);
}
END_TEST

/* Which field a case looks at. */
#define FIELD(f)	offsetof(struct opts, f)

static const struct {
	const char	*says, *args[MAX_ARGS], *env[2];
	size_t		 field;
	long		 want;
} long_cases[] = {
	{ "a number", { "--workers", "8" }, { 0 }, FIELD(workers), 8 },
	{ "with an equals sign", { "--workers=8" }, { 0 }, FIELD(workers), 8 },
	{ "the last counts", { "--workers=8", "--workers", "9" }, { 0 }, FIELD(workers), 9 },
	{ "the least number", { "--workers=1" }, { 0 }, FIELD(workers), 1 },
	{ "the greatest number", { "--workers=256" }, { 0 }, FIELD(workers), 256 },
	{ "milliseconds", { "--poll-interval", "250ms" }, { 0 }, FIELD(poll_interval_ms), 250 },
	{ "seconds", { "--poll-interval", "60s" }, { 0 }, FIELD(poll_interval_ms), 60000 },
	{ "minutes", { "--poll-interval", "1m" }, { 0 }, FIELD(poll_interval_ms), 60000 },
	{ "no duration at all", { "--linger", "0" }, { 0 }, FIELD(linger_ms), 0 },
	{ "a mode is octal", { "--listen-mode", "0600" }, { 0 }, FIELD(listen_mode), 0600 },
	{ "with or without its zero", { "--listen-mode", "666" }, { 0 }, FIELD(listen_mode), 0666 },
	{ "a variable", { 0 }, { "SEATCAST_MAX_GROUPS=7" }, FIELD(max_groups), 7 },
	{ "a variable with a dash in its option", { 0 }, { "SEATCAST_POLL_INTERVAL=5s" }, FIELD(poll_interval_ms), 5000 },
	{ "a flag wins over its variable", { "--workers=8" }, { "SEATCAST_WORKERS=9" }, FIELD(workers), 8 },
	{ "even over a bad one", { "--workers=8" }, { "SEATCAST_WORKERS=x" }, FIELD(workers), 8 },
	{ "an empty variable is none", { 0 }, { "SEATCAST_WORKERS=" }, FIELD(workers), 4 },
	{ "a variable that is no option's does not matter", { 0 }, { "SEATCAST_FOO=x" }, FIELD(workers), 4 },
};

START_TEST(longs)
{
	const char	*says = long_cases[_i].says;
	struct opts	 o;
	char		 error[256];
	long		 got;

	ck_assert_msg(parse(&o, long_cases[_i].args, long_cases[_i].env, error, sizeof(error)) == OPTS_RUN,
	    "%s: %s", says, error);
	memcpy(&got, (char *)&o + long_cases[_i].field, sizeof(got));
	ck_assert_msg(got == long_cases[_i].want, "%s: %ld", says, got);
}
END_TEST

START_TEST(strings_names_and_flags)
{
	static const char *const	 args[] = { "--listen=[::1]:9000", "--database", "host=/tmp dbname=a",
	    "--log-level=debug", "--log-target=syslog", "--check", NULL };
	static const char *const	 yes[] = { "SEATCAST_CHECK=yes", "SEATCAST_LOG_LEVEL=error", "SEATCAST_LISTEN=/run/s", NULL };
	static const char *const	 no[] = { "SEATCAST_CHECK=0", NULL };
	static const char *const	 none[] = { NULL };
	struct opts			 o;
	char				 error[256];

	ck_assert_int_eq(parse(&o, args, no, error, sizeof(error)), OPTS_RUN);
	ck_assert_int_eq(o.log_level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(o.log_target, OPTS_SYSLOG);
	ck_assert_int_eq(o.check, 1);
	ck_assert_int_eq(parse(&o, none, yes, error, sizeof(error)), OPTS_RUN);
	ck_assert_str_eq(o.listen, "/run/s");
	ck_assert_int_eq(o.log_level, LOG_LEVEL_ERROR);
	ck_assert_int_eq(o.check, 1);
	ck_assert_int_eq(parse(&o, none, no, error, sizeof(error)), OPTS_RUN);
	ck_assert_int_eq(o.check, 0);
}
END_TEST

START_TEST(strings_point_into_argv)
{
	char		 name[] = "seatcast", listen[] = "--listen=[::1]:9000", database[] = "--database";
	char		 conninfo[] = "host=/tmp dbname=a";
	char		*argv[] = { name, listen, database, conninfo, NULL };
	struct opts	 o;
	char		 error[256];

	clean_environment();
	ck_assert_int_eq(opts_parse(&o, 4, argv, error, sizeof(error)), OPTS_RUN);
	ck_assert_ptr_eq(o.listen, listen + 9);
	ck_assert_ptr_eq(o.database, conninfo);
}
END_TEST

static const struct {
	const char	*args[MAX_ARGS], *env[2];
	const char	*error;			/* it is the rule, too */
} bad_cases[] = {
	{ { "--workers", "0" }, { 0 }, "--workers: 0: must be 1 to 256" },
	{ { "--workers=257" }, { 0 }, "--workers: 257: must be 1 to 256" },
	{ { "--workers=" }, { 0 }, "--workers: : must be 1 to 256" },
	{ { "--workers=4x" }, { 0 }, "--workers: 4x: must be 1 to 256" },
	{ { "--workers=-1" }, { 0 }, "--workers: -1: must be 1 to 256" },
	{ { "--workers=18446744073709551620" }, { 0 }, "--workers: 18446744073709551620: must be 1 to 256" },
	{ { "--workers" }, { 0 }, "--workers: needs a value: --workers N" },
	{ { "--listen", "--workers=3" }, { 0 }, "--listen: needs a value: --listen PATH|[HOST]:PORT" },
#define NO_ORIGIN	": must be an origin, as in https://www.example.org: lower case, no path, no *"
	{ { "--allow-origin=*" }, { 0 }, "--allow-origin: *" NO_ORIGIN },
	{ { "--allow-origin=https://a.example, *" }, { 0 }, "--allow-origin: *" NO_ORIGIN },
	{ { "--allow-origin=https://*.a.example" }, { 0 }, "--allow-origin: https://*.a.example" NO_ORIGIN },
	{ { "--allow-origin=https://a.example/" }, { 0 }, "--allow-origin: https://a.example/" NO_ORIGIN },
	{ { "--allow-origin=https://A.example" }, { 0 }, "--allow-origin: https://A.example" NO_ORIGIN },
	{ { "--allow-origin=a.example" }, { 0 }, "--allow-origin: a.example" NO_ORIGIN },
	{ { "--allow-origin=a.example,https://b.example" }, { 0 }, "--allow-origin: a.example" NO_ORIGIN },
	{ { "--allow-origin=https://" }, { 0 }, "--allow-origin: https://" NO_ORIGIN },
	{ { "--allow-origin=null" }, { 0 }, "--allow-origin: null" NO_ORIGIN },
	{ { "--base-path=tickets" }, { 0 }, "--base-path: tickets: must be a path, as in /tickets" },
	{ { "--poll-interval", "5h" }, { 0 },
	    "--poll-interval: 5h: not a duration (use 100ms to 1m, e.g. 250ms, 15s, 5m)" },
	{ { "--poll-interval", "1000" }, { 0 },
	    "--poll-interval: 1000: not a duration (use 100ms to 1m, e.g. 250ms, 15s, 5m)" },
	{ { "--poll-interval", "99ms" }, { 0 }, "--poll-interval: 99ms: must be 100ms to 1m" },
	{ { "--poll-interval", "61s" }, { 0 }, "--poll-interval: 61s: must be 100ms to 1m" },
	{ { "--poll-interval", "0" }, { 0 }, "--poll-interval: 0: must be 100ms to 1m" },
	{ { "--listen-mode", "0888" }, { 0 }, "--listen-mode: 0888: must be octal, 0 to 0777" },
	{ { "--listen-mode", "01777" }, { 0 }, "--listen-mode: 01777: must be octal, 0 to 0777" },
	{ { "--log-level=loud" }, { 0 }, "--log-level: loud: must be error, warn, info or debug" },
	{ { "--log-level=INFO" }, { 0 }, "--log-level: INFO: must be error, warn, info or debug" },
	{ { "--log-target=file" }, { 0 }, "--log-target: file: must be stderr or syslog" },
	{ { "--listen=" }, { 0 }, "--listen: must be 1 to 255 bytes long, not 0" },
	{ { "--check=1" }, { 0 }, "--check: takes no value" },
	{ { "--check", "1" }, { 0 }, "unexpected argument 1 (see --help)" },
	{ { "--foo" }, { 0 }, "unknown option --foo (see --help)" },
	{ { "--foo=bar" }, { 0 }, "unknown option --foo (see --help)" },
	{ { "--worker", "3" }, { 0 }, "unknown option --worker (see --help)" },
	{ { "-w" }, { 0 }, "unknown option -w (see --help)" },
	{ { "--" }, { 0 }, "unknown option -- (see --help)" },
	{ { "--=x" }, { 0 }, "unknown option -- (see --help)" },
	{ { "-" }, { 0 }, "unexpected argument - (see --help)" },
	{ { "" }, { 0 }, "unexpected argument  (see --help)" },
	{ { "start" }, { 0 }, "unexpected argument start (see --help)" },
	{ { "two\nlines\033[1m" }, { 0 }, "unexpected argument two?lines?[1m (see --help)" },
	{ { 0 }, { "SEATCAST_WORKERS=none" }, "SEATCAST_WORKERS: none: must be 1 to 256" },
	{ { 0 }, { "SEATCAST_LINGER=5" },
	    "SEATCAST_LINGER: 5: not a duration (use 0 to 1440m, e.g. 250ms, 15s, 5m)" },
	{ { 0 }, { "SEATCAST_CHECK=maybe" }, "SEATCAST_CHECK: maybe: must be 1, 0, yes or no" },
};

START_TEST(bad)
{
	struct opts	 o;
	char		 error[256], small[16];

	ck_assert_msg(parse(&o, bad_cases[_i].args, bad_cases[_i].env, error, sizeof(error)) == OPTS_BAD,
	    "taken: %s", bad_cases[_i].error);
	ck_assert_str_eq(error, bad_cases[_i].error);
	ck_assert_int_eq(parse(&o, bad_cases[_i].args, bad_cases[_i].env, small, sizeof(small)), OPTS_BAD);
	ck_assert_int_eq(strncmp(small, error, sizeof(small) - 1), 0);
	ck_assert_int_eq(parse(&o, bad_cases[_i].args, bad_cases[_i].env, NULL, 0), OPTS_BAD);
}
END_TEST

START_TEST(origins_as_browsers_write_them)
{
	char		 name[] = "seatcast";
	char		 list[] = "--allow-origin=https://a.example,http://localhost:8080, capacitor://localhost,http://[::1]:8080";
	char		*argv[] = { name, list, NULL };
	struct opts	 o;
	char		 error[256];

	clean_environment();
	ck_assert_int_eq(opts_parse(&o, 2, argv, error, sizeof(error)), OPTS_RUN);
	ck_assert_ptr_eq(o.allow_origin, list + 15);
}
END_TEST

START_TEST(a_string_too_long_is_not_shown)
{
	char		 name[] = "seatcast", listen[400] = "--listen=";
	char		*argv[] = { name, listen, NULL };
	struct opts	 o;
	char		 error[256];

	clean_environment();
	memset(listen + 9, 's', 255);
	ck_assert_int_eq(opts_parse(&o, 2, argv, error, sizeof(error)), OPTS_RUN);
	memset(listen + 9, 's', 256);
	ck_assert_int_eq(opts_parse(&o, 2, argv, error, sizeof(error)), OPTS_BAD);
	ck_assert_str_eq(error, "--listen: must be 1 to 255 bytes long, not 256");
}
END_TEST

static const struct {
	const char		*says, *args[MAX_ARGS], *env[2];
	enum opts_result	 want;
} result_cases[] = {
	{ "help", { "--help" }, { 0 }, OPTS_HELP },
	{ "version", { "--version" }, { 0 }, OPTS_VERSION },
	{ "help whatever follows", { "--help", "--foo" }, { 0 }, OPTS_HELP },
	{ "not what stood before", { "--foo", "--help" }, { 0 }, OPTS_BAD },
	{ "help in spite of a bad variable", { "--help" }, { "SEATCAST_WORKERS=x" }, OPTS_HELP },
	{ "help takes no value", { "--help=x" }, { 0 }, OPTS_BAD },
};

START_TEST(results)
{
	struct opts	 o;
	char		 error[256];

	ck_assert_msg(parse(&o, result_cases[_i].args, result_cases[_i].env, error, sizeof(error)) ==
	    result_cases[_i].want, "%s: %s", result_cases[_i].says, error);
}
END_TEST

static const struct {
	const char	*text;
	long		 ms;			/* -1: not a duration */
} duration_cases[] = {
	{ "0", 0 }, { "0s", 0 }, { "0ms", 0 }, { "1ms", 1 }, { "15s", 15000 }, { "5m", 300000 }, { "007s", 7000 },
	{ "", -1 }, { "s", -1 }, { "15", -1 }, { "-1s", -1 }, { "+1s", -1 }, { " 1s", -1 }, { "1s ", -1 },
	{ "1 s", -1 }, { "1.5s", -1 }, { "1h", -1 }, { "1S", -1 }, { "1min", -1 }, { "1m1s", -1 }, { "00", -1 },
	{ "9223372036854775807ms", LONG_MAX }, { "922337203685477580ms", 922337203685477580 },
	{ "9223372036854775808ms", -1 }, { "922337203685477580m", -1 }, { "99999999999999999999s", -1 },
};

START_TEST(durations)
{
	long	 ms = -1;

	ck_assert_int_eq(opts_duration(duration_cases[_i].text, &ms), duration_cases[_i].ms == -1 ? -1 : 0);
	ck_assert_msg(ms == duration_cases[_i].ms, "\"%s\" is %ld", duration_cases[_i].text, ms);
}
END_TEST

static char *
help(void)
{
	char	*text = NULL;
	size_t	 size;
	FILE	*out = open_memstream(&text, &size);

	ck_assert_ptr_nonnull(out);
	opts_help(out);
	ck_assert_int_eq(fclose(out), 0);
	return (text);
}

START_TEST(help_has_every_option_and_its_variable)
{
	char		*text = help(), name[64], variable[64];
	size_t		 i;

	snprintf(name, sizeof(name), "\n  --%s", variables[_i]);
	snprintf(variable, sizeof(variable), "; SEATCAST_%s]\n", variables[_i]);
	if (strlen(name) > 3 && strcmp(name + strlen(name) - 3, "_ms") == 0) {
		name[strlen(name) - 3] = '\0';
		variable[strlen(variable) - 5] = '\0';	/* "_ms]\n" */
	}
	for (i = 0; name[i] != '\0'; i++)
		if (name[i] == '_')
			name[i] = '-';
	for (i = 0; variable[i] != '\0'; i++)
		if (variable[i] >= 'a' && variable[i] <= 'z')
			variable[i] -= 'a' - 'A';
	ck_assert_msg(strstr(text, name) != NULL, "no %s", name);
	ck_assert_msg(strstr(text, variable) != NULL, "no %s", variable);
	free(text);
}
END_TEST

START_TEST(help_fits_80_columns_and_tells_of_itself)
{
	char	*text = help(), *line;
	size_t	 len;

	ck_assert_ptr_nonnull(strstr(text, "\n  --help\n"));
	ck_assert_ptr_nonnull(strstr(text, "\n  --version\n"));
	ck_assert_ptr_nonnull(strstr(text, "\n  --check\n"));
	ck_assert_ptr_nonnull(strstr(text, "[100ms to 1m, default 1s; SEATCAST_POLL_INTERVAL]"));
	ck_assert_ptr_nonnull(strstr(text, "[octal, default 0660; SEATCAST_LISTEN_MODE]"));
	for (line = text; *line != '\0'; line += len + 1) {
		len = strcspn(line, "\n");
		ck_assert_msg(len <= 80, "%zu columns: %.*s", len, (int)len, line);
		ck_assert_msg(len == 0 || line[len - 1] != ' ', "a space at the end: %.*s", (int)len, line);
	}
	free(text);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("opts");
	TCase	*tc;

	tc = unit_case(s, "values");
	tcase_add_test(tc, defaults_are_those_of_the_specification);
	unit_rows(tc, longs, long_cases);
	tcase_add_test(tc, strings_names_and_flags);
	tcase_add_test(tc, strings_point_into_argv);
	unit_rows(tc, durations, duration_cases);
	tc = unit_case(s, "complaints");
	unit_rows(tc, bad, bad_cases);
	tcase_add_test(tc, origins_as_browsers_write_them);
	tcase_add_test(tc, a_string_too_long_is_not_shown);
	unit_rows(tc, results, result_cases);
	tc = unit_case(s, "help");
	unit_rows(tc, help_has_every_option_and_its_variable, variables);
	tcase_add_test(tc, help_fits_80_columns_and_tells_of_itself);
	return (unit_main(s));
}
