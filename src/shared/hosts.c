/* SPDX-License-Identifier: ISC */
#include <arpa/inet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "shared/hosts.h"
#include "shared/resolver.h"

#define MAX_TARGETS	64	/* addresses in all */
#define MAX_KEYWORDS	80

enum { HOST, HOSTADDR, PORT, LISTS };
static const char *const list_keyword[LISTS] = { "host", "hostaddr", "port" };

/* One member of each list: what libpq tries as one host.  NULL or "": libpq's default. */
struct target {
	const char *part[LISTS];
};

struct hosts {
	struct ev_loop		*ev;
	char			*conninfo;
	hosts_cb		*ready;
	void			*arg;
	PQconninfoOption	*options;	/* of the last hosts_ask; NULL: cannot be read */
	char			*list[LISTS];	/* what counts, its commas made NULs; NULL: not given */
	size_t			 members[LISTS];
	struct resolver		**resolvers;	/* one for each name, kept for its last good answer */
	size_t			 nresolvers;
	unsigned		 turned;
	bool			 failed;	/* out of memory: the lists are not to be used */
	char			 error[256];
};

static const char *
value_of(const PQconninfoOption *o, const char *keyword)
{
	for (; o != NULL && o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return (o->val != NULL && o->val[0] != '\0' ? o->val : NULL);
	return (NULL);
}

/*
 * PQconndefaults reads a service file that PGSERVICE names, but knows nothing of
 * a connection string; to libpq the two are the same.  Only once, since threads
 * that look up names read the environment, too.
 */
static void
export_service(const char *conninfo)
{
	PQconninfoOption	*options = PQconninfoParse(conninfo, NULL);
	const char		*service = value_of(options, "service");

	if (service != NULL && (getenv("PGSERVICE") == NULL || strcmp(getenv("PGSERVICE"), service) != 0))
		(void)setenv("PGSERVICE", service, 1);
	PQconninfoFree(options);
}

/* --- the lists ------------------------------------------------------------- */

static void
forget_lists(struct hosts *h)
{
	int l;

	for (l = 0; l < LISTS; l++) {
		free(h->list[l]);
		h->list[l] = NULL;
		h->members[l] = 0;
	}
	PQconninfoFree(h->options);
	h->options = NULL;
	h->failed = false;
}

static void
set_list(struct hosts *h, int l, const char *text)
{
	char *p;

	if (text == NULL)
		return;
	if ((h->list[l] = strdup(text)) == NULL) {
		h->failed = true;
		return;
	}
	h->members[l] = 1;
	for (p = h->list[l]; *p != '\0'; p++)
		if (*p == ',') {
			*p = '\0';
			h->members[l]++;
		}
}

/* The i-th member; of a list of one, that one; NULL: there is none. */
static const char *
member(const struct hosts *h, int l, size_t i)
{
	const char *p = h->list[l];

	if (p == NULL || h->members[l] == 1)
		return (p);
	for (; i > 0; i--)
		p += strlen(p) + 1;
	return (p);
}

static size_t
host_count(const struct hosts *h)
{
	return (h->members[HOST] > h->members[HOSTADDR] ? h->members[HOST] : h->members[HOSTADDR]);
}

/* Do the lists fit together?  If not, libpq is to say so. */
static bool
lists_fit(const struct hosts *h)
{
	size_t	n = host_count(h);
	int	l;

	for (l = HOST; l <= HOSTADDR; l++)
		if (h->members[l] != 0 && h->members[l] != n)
			return (false);
	return (n > 0 && (h->members[PORT] <= 1 || h->members[PORT] == n));
}

/* --- names ------------------------------------------------------------------ */

/* Has somebody to be asked for the address?  Not for a path, an abstract socket or a number. */
static bool
is_name(const char *host)
{
	unsigned char binary[sizeof(struct in6_addr)];

	return (host != NULL && host[0] != '\0' && host[0] != '/' && host[0] != '@' && strchr(host, '%') == NULL &&
	    inet_pton(AF_INET, host, binary) != 1 && inet_pton(AF_INET6, host, binary) != 1);
}

/* The name of the i-th host, if its address has to be found out. */
static const char *
name_at(const struct hosts *h, size_t i)
{
	const char *host = member(h, HOST, i), *addr = member(h, HOSTADDR, i);

	return ((addr == NULL || addr[0] == '\0') && is_name(host) ? host : NULL);
}

static void
on_resolved(void *arg)
{
	struct hosts *h = arg;

	if (!hosts_is_asking(h))
		h->ready(h->arg);
}

static struct resolver *
find_resolver(const struct hosts *h, const char *name)
{
	size_t i;

	for (i = 0; i < h->nresolvers; i++)
		if (strcmp(resolver_name(h->resolvers[i]), name) == 0)
			return (h->resolvers[i]);
	return (NULL);
}

/* That of a name, or a new one.  NULL: ENOMEM. */
static struct resolver *
need_resolver(struct hosts *h, const char *name)
{
	struct resolver	**grown, *r = find_resolver(h, name);

	if (r != NULL || (grown = reallocarray(h->resolvers, h->nresolvers + 1, sizeof(*grown))) == NULL)
		return (r);
	h->resolvers = grown;
	if ((r = resolver_new(h->ev, name, on_resolved, h)) != NULL)
		h->resolvers[h->nresolvers++] = r;
	return (r);
}

/* --- what is to be tried ------------------------------------------------------ */

/* Every address once, from the lists and the names' last good answers.  Their number. */
static size_t
targets(const struct hosts *h, struct target *t)
{
	const struct resolver	*r;
	const char		*name;
	size_t			 i, k, n = 0;

	for (i = 0; i < host_count(h) && n < MAX_TARGETS; i++) {
		t[n] = (struct target){ { member(h, HOST, i), member(h, HOSTADDR, i), member(h, PORT, i) } };
		if ((name = name_at(h, i)) == NULL) {
			n++;
			continue;
		}
		r = find_resolver(h, name);
		for (k = 0; r != NULL && k < resolver_count(r) && n < MAX_TARGETS; k++) {
			t[n] = (struct target){ { name, resolver_address(r, k), member(h, PORT, i) } };
			n++;
		}
	}
	return (n);
}

/* One part of all targets, beginning with the one whose turn it is: "a,b,c". */
static void
join(struct buf *b, const struct target *t, size_t n, unsigned first, int part)
{
	const char	*text;
	size_t		 i;

	for (i = 0; i < n; i++) {
		text = t[(first + i) % n].part[part];
		buf_printf(b, "%s%s", i > 0 ? "," : "", text != NULL ? text : "");
	}
}

/* --- the outside ---------------------------------------------------------------- */

struct hosts *
hosts_new(struct ev_loop *ev, const char *conninfo, hosts_cb *ready, void *arg)
{
	struct hosts *h;

	if ((h = calloc(1, sizeof(*h))) == NULL)
		return (NULL);
	if ((h->conninfo = strdup(conninfo)) == NULL) {
		free(h);
		return (NULL);
	}
	h->ev = ev;
	h->ready = ready;
	h->arg = arg;
	export_service(conninfo);
	return (h);
}

void
hosts_free(struct hosts **hp)
{
	struct hosts *h = *hp;

	if (h == NULL)
		return;
	while (h->nresolvers > 0)
		resolver_free(&h->resolvers[--h->nresolvers]);
	free(h->resolvers);
	forget_lists(h);
	free(h->conninfo);
	free(h);
	*hp = NULL;
}

void
hosts_ask(struct hosts *h)
{
	PQconninfoOption	*defaults;
	struct resolver		*r;
	const char		*text;
	size_t			 i;
	int			 l;

	forget_lists(h);
	if ((h->options = PQconninfoParse(h->conninfo, NULL)) == NULL)
		return;
	defaults = PQconndefaults();
	for (l = 0; l < LISTS; l++) {
		text = value_of(h->options, list_keyword[l]);
		set_list(h, l, text != NULL ? text : value_of(defaults, list_keyword[l]));
	}
	PQconninfoFree(defaults);
	if (!lists_fit(h))
		return;
	for (i = 0; i < host_count(h); i++)
		if (name_at(h, i) != NULL && (r = need_resolver(h, name_at(h, i))) != NULL)
			resolver_ask(r);
}

bool
hosts_is_asking(const struct hosts *h)
{
	size_t i;

	for (i = 0; i < h->nresolvers; i++)
		if (resolver_is_asking(h->resolvers[i]))
			return (true);
	return (false);
}

bool
hosts_any(const struct hosts *h)
{
	struct target t[MAX_TARGETS];

	return (!lists_fit(h) || targets(h, t) > 0);
}

const char *
hosts_error(struct hosts *h)
{
	const struct resolver	*r;
	const char		*name;
	size_t			 i;

	for (i = 0; i < host_count(h); i++) {
		if ((name = name_at(h, i)) == NULL)
			continue;
		if ((r = find_resolver(h, name)) == NULL)
			return ("out of memory");
		snprintf(h->error, sizeof(h->error), "%.160s: %s", name, resolver_is_asking(r) ? "no answer from the name server" :
		    resolver_error(r) != NULL ? resolver_error(r) : "no address");
		return (h->error);
	}
	return ("no host");
}

void
hosts_turn(struct hosts *h)
{
	h->turned++;
}

/*
 * Our defaults first, what the conninfo says after them, so that it wins, then the
 * lists.  tcp_user_timeout and keepalives find a dead server behind a silent network.
 */
PGconn *
hosts_connect(struct hosts *h)
{
	const char		*key[MAX_KEYWORDS] = { "application_name", "client_encoding",
	    "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count" };
	const char		*val[MAX_KEYWORDS] = { "seatcast", "UTF8", "5000", "5", "2", "3" };
	size_t			 k = 6, n;
	struct target		 t[MAX_TARGETS];
	struct buf		 joined[LISTS] = { BUF_INIT, BUF_INIT, BUF_INIT };
	const PQconninfoOption	*o;
	PGconn			*conn = NULL;
	bool			 ok = !h->failed;
	int			 l;

	if (h->options == NULL)		/* PQconnectStart says what is wrong with it: one way for all errors */
		return (PQconnectStart(h->conninfo));
	for (o = h->options; o->keyword != NULL && k < MAX_KEYWORDS - LISTS - 1; o++)
		if (o->val != NULL && o->val[0] != '\0') {
			key[k] = o->keyword;
			val[k++] = o->val;
		}
	n = lists_fit(h) ? targets(h, t) : 0;
	for (l = 0; l < LISTS && n > 0; l++) {
		join(&joined[l], t, n, h->turned % (unsigned)n, l);
		ok = ok && buf_ok(&joined[l]);
		key[k] = list_keyword[l];
		val[k++] = joined[l].data;
	}
	if (ok)
		conn = PQconnectStartParams(key, val, 0);
	for (l = 0; l < LISTS; l++)
		buf_fini(&joined[l]);
	return (conn);
}
