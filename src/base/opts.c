/* SPDX-License-Identifier: ISC */
#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/number.h"
#include "base/opts.h"

#define HELP_WIDTH	80
#define NAME_BYTES	64	/* --name or SEATCAST_NAME */
#define DURATION_BYTES	32

enum opt_type { STRING, ORIGINS, PREFIX, DURATION, NUMBER, MODE, LEVEL, TARGET, FLAG };

static const struct opt {
	const char	*name;
	enum opt_type	 type;
	size_t		 offset;	/* of its field in struct opts */
	long		 min, max;
	const char	*metavar;	/* NULL: FLAG */
	const char	*text;
} table[] = {
#define OPT(field, name, TYPE, def, min, max, metavar, text) \
	{ name, TYPE, offsetof(struct opts, field), min, max, metavar, text },
#include "base/opts_tbl.h"
#undef OPT
};
#define NOPTS	nitems(table)

static const struct opts defaults = {
#define OPT(field, name, TYPE, def, min, max, metavar, text)	.field = def,
#include "base/opts_tbl.h"
#undef OPT
};

static const char *const levels[] = {
	[LOG_LEVEL_ERROR]	= "error",
	[LOG_LEVEL_WARN]	= "warn",
	[LOG_LEVEL_INFO]	= "info",
	[LOG_LEVEL_DEBUG]	= "debug",
};
static const char *const targets[] = {
	[OPTS_STDERR]		= "stderr",
	[OPTS_SYSLOG]		= "syslog",
};

/* Where the one line about what is wrong goes, and which option it is about. */
struct complaint {
	const char	*source;	/* "--workers", "SEATCAST_WORKERS" */
	char		*text;
	size_t		 size;
};

static int	 complain(const struct complaint *, const char *, ...)
    __attribute__((format(printf, 2, 3)));

/* "<source>: …" into the complaint; always -1.  What the user typed may not break the line. */
static int
complain(const struct complaint *c, const char *fmt, ...)
{
	va_list	 ap;
	int	 n = 0;
	char	*p;

	if (c->size == 0)
		return (-1);
	if (c->source != NULL)
		n = snprintf(c->text, c->size, "%s: ", c->source);
	if (n >= 0 && (size_t)n < c->size) {
		va_start(ap, fmt);
		vsnprintf(c->text + n, c->size - (size_t)n, fmt, ap);
		va_end(ap);
	}
	for (p = c->text; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			*p = '?';
	return (-1);
}

/* "poll-interval" to "SEATCAST_POLL_INTERVAL". */
static void
variable_name(char *out, const char *name)
{
	char	*p = out;

	p += snprintf(out, NAME_BYTES, "SEATCAST_");
	for (; *name != '\0' && p < out + NAME_BYTES - 1; name++)
		*p++ = (*name == '-' ? '_' : (char)toupper((unsigned char)*name));
	*p = '\0';
}

int
opts_duration(const char *text, long *ms_r)
{
	static const struct {
		const char	*name;
		long		 ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 } };
	size_t		 i, digits = strspn(text, "0123456789");
	uint64_t	 n;

	if (strcmp(text, "0") == 0) {
		*ms_r = 0;
		return (0);
	}
	if (number_parse(text, digits, 10, LONG_MAX, &n) == -1)
		return (-1);
	for (i = 0; i < nitems(units); i++) {
		if (strcmp(text + digits, units[i].name) != 0)
			continue;
		if (n > (uint64_t)(LONG_MAX / units[i].ms))
			return (-1);
		*ms_r = (long)n * units[i].ms;
		return (0);
	}
	return (-1);
}

/* The shortest text that opts_duration reads as ms. */
static void
duration_format(char *out, long ms)
{
	if (ms == 0)
		snprintf(out, DURATION_BYTES, "0");
	else if (ms % 60000 == 0)
		snprintf(out, DURATION_BYTES, "%ldm", ms / 60000);
	else if (ms % 1000 == 0)
		snprintf(out, DURATION_BYTES, "%lds", ms / 1000);
	else
		snprintf(out, DURATION_BYTES, "%ldms", ms);
}

static int
set_duration(const struct opt *opt, const char *value, long *field, const struct complaint *c)
{
	char	 min[DURATION_BYTES], max[DURATION_BYTES];
	long	 ms;

	duration_format(min, opt->min);
	duration_format(max, opt->max);
	if (opts_duration(value, &ms) == -1)
		return (complain(c, "%.40s: not a duration (use %s to %s, e.g. 250ms, 15s, 5m)",
		    value, min, max));
	if (ms < opt->min || ms > opt->max)
		return (complain(c, "%.40s: must be %s to %s", value, min, max));
	*field = ms;
	return (0);
}

static int
parse_digits(const char *text, unsigned base, long min, long max, long *n_r)
{
	uint64_t n;

	if (number_parse(text, strlen(text), base, (uint64_t)max, &n) == -1 || (long)n < min)
		return (-1);
	*n_r = (long)n;
	return (0);
}

static int
set_number(const struct opt *opt, const char *value, long *field, const struct complaint *c)
{
	if (parse_digits(value, 10, opt->min, opt->max, field) == -1)
		return (complain(c, "%.40s: must be %ld to %ld", value, opt->min, opt->max));
	return (0);
}

static int
set_mode(const struct opt *opt, const char *value, long *field, const struct complaint *c)
{
	if (parse_digits(value, 8, opt->min, opt->max, field) == -1)
		return (complain(c, "%.40s: must be octal, 0 to %#lo", value,
		    (unsigned long)opt->max));
	return (0);
}

/* The value itself is not shown: it may hold a password. */
static int
set_string(const struct opt *opt, const char *value, const char **field, const struct complaint *c)
{
	size_t	 len = strlen(value);

	if (len < (size_t)opt->min || len > (size_t)opt->max)
		return (complain(c, "must be %ld to %ld bytes long, not %zu", opt->min, opt->max, len));
	*field = value;
	return (0);
}

/* Origins as browsers write them (RFC 6454, 6.2), separated by commas: no star, since answers allow credentials. */
static int
set_origins(const struct opt *opt, const char *value, const char **field, const struct complaint *c)
{
	const char	*at, *host;
	size_t		 len;

	for (at = value; *at != '\0'; at += len) {
		at += strspn(at, ", ");
		len = strcspn(at, ", ");
		if (len == 0)
			continue;
		host = strstr(at, "://");
		if (host == NULL || host == at || host + 3 >= at + len ||
		    strcspn(host + 3, "/?#*@") < (size_t)(at + len - host - 3) ||
		    strcspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ*") < len)
			return (complain(c, "%.*s: must be an origin, as in https://www.example.org: lower case, no path, no *",
			    (int)len, at));
	}
	return (set_string(opt, value, field, c));
}

static int
set_prefix(const struct opt *opt, const char *value, const char **field, const struct complaint *c)
{
	if (value[0] != '/' || strpbrk(value, "?#%") != NULL)
		return (complain(c, "%.40s: must be a path, as in /tickets", value));
	return (set_string(opt, value, field, c));
}

/* The index of value among names; -1: it is none of them. */
static int
find_name(const char *const *names, size_t n, const char *value)
{
	size_t	 i;

	for (i = 0; i < n; i++)
		if (strcmp(names[i], value) == 0)
			return ((int)i);
	return (-1);
}

static int
set_level(const char *value, enum log_level *field, const struct complaint *c)
{
	int	 i;

	if ((i = find_name(levels, nitems(levels), value)) == -1)
		return (complain(c, "%.40s: must be error, warn, info or debug", value));
	*field = (enum log_level)i;
	return (0);
}

static int
set_target(const char *value, enum opts_target *field, const struct complaint *c)
{
	int	 i;

	if ((i = find_name(targets, nitems(targets), value)) == -1)
		return (complain(c, "%.40s: must be stderr or syslog", value));
	*field = (enum opts_target)i;
	return (0);
}

static int
set_flag(const char *value, int *field, const struct complaint *c)
{
	if (strcmp(value, "1") == 0 || strcmp(value, "yes") == 0)
		*field = 1;
	else if (strcmp(value, "0") == 0 || strcmp(value, "no") == 0)
		*field = 0;
	else
		return (complain(c, "%.40s: must be 1, 0, yes or no", value));
	return (0);
}

static int
set(struct opts *o, const struct opt *opt, const char *value, const struct complaint *c)
{
	void	*field = (char *)o + opt->offset;

	switch (opt->type) {
	case STRING:
		return (set_string(opt, value, field, c));
	case ORIGINS:
		return (set_origins(opt, value, field, c));
	case PREFIX:
		return (set_prefix(opt, value, field, c));
	case DURATION:
		return (set_duration(opt, value, field, c));
	case NUMBER:
		return (set_number(opt, value, field, c));
	case MODE:
		return (set_mode(opt, value, field, c));
	case LEVEL:
		return (set_level(value, field, c));
	case TARGET:
		return (set_target(value, field, c));
	case FLAG:
		return (set_flag(value, field, c));
	}
	must(!"a type without a setter");
	return (-1);
}

static const struct opt *
find_option(const char *name, size_t len)
{
	const struct opt	*opt;

	for (opt = table; opt < table + NOPTS; opt++)
		if (strlen(opt->name) == len && memcmp(opt->name, name, len) == 0)
			return (opt);
	return (NULL);
}

/*
 * argv[*i] is an option of the table: set it.  *i moves over its value when that
 * is an argument of its own.  What starts with "--" is taken for a forgotten
 * value; "--name=--value" says that it is meant.
 */
static int
take_option(struct opts *o, const struct opt *opt, int argc, char **argv, int *i,
    struct complaint *c)
{
	const char	*equals = strchr(argv[*i], '=');
	char		 source[NAME_BYTES];

	snprintf(source, sizeof(source), "--%s", opt->name);
	c->source = source;
	if (opt->type == FLAG)
		return (equals == NULL ? set(o, opt, "1", c) : complain(c, "takes no value"));
	if (equals != NULL)
		return (set(o, opt, equals + 1, c));
	if (*i + 1 == argc || strncmp(argv[*i + 1], "--", 2) == 0)
		return (complain(c, "needs a value: --%s %s", opt->name, opt->metavar));
	return (set(o, opt, argv[++*i], c));
}

/* The command line, noting in given which options it has. */
static enum opts_result
take_arguments(struct opts *o, bool given[NOPTS], int argc, char **argv, struct complaint *c)
{
	const struct opt	*opt;
	size_t			 len;
	int			 i;

	for (i = 1; i < argc; i++) {
		c->source = NULL;
		if (argv[i][0] != '-' || argv[i][1] == '\0') {
			complain(c, "unexpected argument %.40s (see --help)", argv[i]);
			return (OPTS_BAD);
		}
		if (strcmp(argv[i], "--help") == 0)
			return (OPTS_HELP);
		if (strcmp(argv[i], "--version") == 0)
			return (OPTS_VERSION);
		len = strcspn(argv[i], "=");
		opt = (len > 2 && argv[i][1] == '-' ? find_option(argv[i] + 2, len - 2) : NULL);
		if (opt == NULL) {
			complain(c, "unknown option %.*s (see --help)", len < 40 ? (int)len : 40,
			    argv[i]);
			return (OPTS_BAD);
		}
		if (take_option(o, opt, argc, argv, &i, c) == -1)
			return (OPTS_BAD);
		given[opt - table] = true;
	}
	return (OPTS_RUN);
}

/* The environment, for what the command line did not say. */
static enum opts_result
take_environment(struct opts *o, const bool given[NOPTS], struct complaint *c)
{
	const char	*value;
	char		 source[NAME_BYTES];
	size_t		 i;

	for (i = 0; i < NOPTS; i++) {
		variable_name(source, table[i].name);
		if (given[i] || (value = getenv(source)) == NULL || *value == '\0')
			continue;
		c->source = source;
		if (set(o, &table[i], value, c) == -1)
			return (OPTS_BAD);
	}
	return (OPTS_RUN);
}

/* The command line first: --help must not fail for a variable, nor a flag for the one it overrides. */
enum opts_result
opts_parse(struct opts *o_r, int argc, char **argv, char *error_r, size_t size)
{
	struct complaint	 c = { NULL, error_r, size };
	bool			 given[NOPTS] = { false };
	enum opts_result	 result;

	if (size > 0)
		error_r[0] = '\0';
	*o_r = defaults;
	if ((result = take_arguments(o_r, given, argc, argv, &c)) != OPTS_RUN)
		return (result);
	return (take_environment(o_r, given, &c));
}

/* Words of text, indented, in lines of at most HELP_WIDTH. */
static void
help_text(FILE *out, const char *text)
{
	const size_t	 indent = 8;
	size_t		 column = 0, len;

	while (*text != '\0') {
		len = strcspn(text, " ");
		if (column > 0 && column + 1 + len > HELP_WIDTH) {
			fputc('\n', out);
			column = 0;
		}
		if (column == 0) {
			fprintf(out, "%*s%.*s", (int)indent, "", (int)len, text);
			column = indent + len;
		} else {
			fprintf(out, " %.*s", (int)len, text);
			column += 1 + len;
		}
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

/* "100ms to 1m, default 1s": what an option takes and has without being told. */
static void
help_values(char *out, size_t size, const struct opt *opt)
{
	const void	*field = (const char *)&defaults + opt->offset;
	char		 min[DURATION_BYTES], max[DURATION_BYTES], def[DURATION_BYTES];
	const char	*string;

	switch (opt->type) {
	case STRING:
	case ORIGINS:
	case PREFIX:
		string = *(const char *const *)field;
		snprintf(out, size, "default %s", string == NULL ? "none" : string);
		break;
	case DURATION:
		duration_format(min, opt->min);
		duration_format(max, opt->max);
		duration_format(def, *(const long *)field);
		snprintf(out, size, "%s to %s, default %s", min, max, def);
		break;
	case NUMBER:
		snprintf(out, size, "%ld to %ld, default %ld", opt->min, opt->max,
		    *(const long *)field);
		break;
	case MODE:
		snprintf(out, size, "octal, default %#lo", (unsigned long)*(const long *)field);
		break;
	case LEVEL:
		snprintf(out, size, "default %s", levels[*(const enum log_level *)field]);
		break;
	case TARGET:
		snprintf(out, size, "default %s", targets[*(const enum opts_target *)field]);
		break;
	case FLAG:
		snprintf(out, size, "default no");
		break;
	}
}

static void
help_option(FILE *out, const struct opt *opt)
{
	char	 values[128], variable[NAME_BYTES];

	fprintf(out, "  --%s%s%s\n", opt->name, opt->metavar != NULL ? " " : "",
	    opt->metavar != NULL ? opt->metavar : "");
	help_text(out, opt->text);
	help_values(values, sizeof(values), opt);
	variable_name(variable, opt->name);
	fprintf(out, "        [%s; %s]\n", values, variable);
}

void
opts_help(FILE *out)
{
	size_t	 i;

	fputs("usage: seatcast [--option value | --option=value] ...\n"
	    "\n"
	    "Streams live seat status to browsers: FastCGI in, Server-Sent Events out.\n"
	    "Serves the listening socket on descriptor 0, or the one that --listen names.\n"
	    "\n"
	    "Options, with their defaults and the environment variables that set them too:\n"
	    "\n", out);
	for (i = 0; i < NOPTS; i++)
		help_option(out, &table[i]);
	fputs("  --version\n"
	    "        print the version and exit\n"
	    "  --help\n"
	    "        print this and exit\n"
	    "\n"
	    "An option wins over its variable; an empty variable counts as not set.\n"
	    "Durations take ms, s or m: 250ms, 15s, 5m.\n"
	    "\n"
	    "Exit status: 0 after a clean end, 1 on a failure, 2 on a bad command line.\n"
	    "Signals: SIGTERM and SIGUSR1 drain and exit, SIGINT exits at once, SIGHUP is\n"
	    "ignored.\n", out);
}
