/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/must.h"
#include "base/number.h"
#include "worker/route.h"

/* '#' stands for one segment that must be an id. */
static const struct route_row {
	const char		*pattern;
	const char		*allow;		/* "GET, HEAD" or "POST": the methods it takes */
	enum route_action	 action;
} route_table[] = {
	{ "/api/matches/#/blocks/#/seats/status-stream",  "GET, HEAD", ROUTE_STREAM },
	{ "/api/matches/#/blocks/#/seats",		  "GET, HEAD", ROUTE_SNAPSHOT },
	{ "/api/matches/#/blocks/#/seats/changes",	  "GET, HEAD", ROUTE_CHANGES },
	{ "/api/matches/#/blocks/#/seats/changed",	  "POST",      ROUTE_CHANGED },
	{ "/api/matches/#/status-stream",		  "GET, HEAD", ROUTE_MATCH_STREAM },
	{ "/api/matches/#/blocks",			  "GET, HEAD", ROUTE_COUNTS },
	{ "/api/matches",				  "GET, HEAD", ROUTE_MATCHES },
	{ "/api/site/stadium",				  "GET, HEAD", ROUTE_STADIUM },
	{ "/api/site/areas",				  "GET, HEAD", ROUTE_AREAS },
	{ "/api/site/areas/#/sections",			  "GET, HEAD", ROUTE_SECTIONS },
	{ "/api/site/sections/#/blocks",		  "GET, HEAD", ROUTE_BLOCKS },
	{ "/api/site/blocks/#/seats",			  "GET, HEAD", ROUTE_SEATS },
	{ "/api/matches/#/allocation/seats/#/hold",	  "POST",      ROUTE_HOLD },
	{ "/api/matches/#/allocation/seats/#/release",	  "POST",      ROUTE_RELEASE },
	{ "/api/matches/#/allocation/seats/hold",	  "POST",      ROUTE_HOLD_SEATS },
	{ "/api/matches/#/allocation/seats/release",	  "POST",      ROUTE_RELEASE_SEATS },
	{ "/api/matches/#/allocation/seats/confirm",	  "POST",      ROUTE_CONFIRM },
	{ "/healthz",					  "GET, HEAD", ROUTE_HEALTHZ },
	{ "/readyz",					  "GET, HEAD", ROUTE_READYZ },
	{ "/metrics",					  "GET, HEAD", ROUTE_METRICS },
	{ "/status",					  "GET, HEAD", ROUTE_STATUS },
};

struct segment {
	const char	*text;		/* not terminated; NULL: there is none */
	size_t		 len;
};

/*
 * Does path have the shape of pattern?  Then ids_r[] are the segments under
 * its '#', unjudged: whether they are ids is asked last, because 400 comes
 * after 404 and 405.
 */

static bool
has_shape(const char *pattern, const char *path, struct segment ids_r[ROUTE_MAX_IDS])
{
	size_t	 n = 0;

	memset(ids_r, 0, ROUTE_MAX_IDS * sizeof(*ids_r));	/* another row may have left some */
	while (*pattern != '\0') {
		if (*pattern != '#') {
			if (*pattern++ != *path++)
				return (false);
			continue;
		}
		must(n < ROUTE_MAX_IDS);
		ids_r[n].text = path;
		ids_r[n].len = strcspn(path, "/");
		path += ids_r[n++].len;
		pattern++;
	}
	return (*path == '\0');
}

/* Is method one of a list like "GET, HEAD"? */
static bool
is_allowed(const char *allow, const char *method)
{
	size_t	 len = strlen(method), n;

	while (*allow != '\0') {
		n = strcspn(allow, ",");
		if (n == len && memcmp(allow, method, n) == 0)
			return (true);
		allow += n;
		allow += strspn(allow, ", ");
	}
	return (false);
}

int
route_find(const char *method, const char *path, struct route *route_r)
{
	const struct route_row	*row;
	struct segment		 ids[ROUTE_MAX_IDS];
	size_t			 i;

	memset(route_r, 0, sizeof(*route_r));
	for (row = route_table; row < route_table + nitems(route_table); row++)
		if (has_shape(row->pattern, path, ids))
			break;
	if (row == route_table + nitems(route_table))
		return (404);
	route_r->action = row->action;
	route_r->allow = row->allow;
	route_r->head = (strcmp(method, "HEAD") == 0);
	if (!is_allowed(row->allow, method))
		return (405);
	for (i = 0; i < ROUTE_MAX_IDS && ids[i].text != NULL; i++)
		if (route_id(ids[i].text, ids[i].len, &route_r->ids[i]) == -1)
			return (400);
	return (200);
}

int
route_id(const char *text, size_t len, int64_t *id_r)
{
	uint64_t id;

	if (len == 0 || text[0] == '0' || number_parse(text, len, 10, INT64_MAX, &id) == -1)
		return (-1);
	*id_r = (int64_t)id;
	return (0);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (c - '0');
	if (c >= 'a' && c <= 'f')
		return (c - 'a' + 10);
	if (c >= 'A' && c <= 'F')
		return (c - 'A' + 10);
	return (-1);
}

/*
 * The byte at text[*i], an escape decoded; *i moves behind it.  -1: a bad
 * escape.  len bounds what may be read.
 */
static int
decode_byte(const char *text, size_t len, size_t *i)
{
	int	 high, low;

	if (text[*i] != '%')
		return ((unsigned char)text[(*i)++]);
	if (len - *i < 3 || (high = hex_digit(text[*i + 1])) == -1 ||
	    (low = hex_digit(text[*i + 2])) == -1)
		return (-1);
	*i += 3;
	return (high * 16 + low);
}

static bool
is_control(int byte)
{
	return (byte < ' ' || byte == 0x7f);
}

/* Append text as it is to the path of *used bytes. */
static int
path_add(char *path, size_t size, size_t *used, const char *text)
{
	for (; text != NULL && *text != '\0'; text++) {
		if (*used + 1 >= size || is_control((unsigned char)*text))
			return (-1);
		path[(*used)++] = *text;
	}
	return (0);
}

/* Append the path of a request target (RFC 9112, 3.2: origin-form or absolute-form), decoded. */
static int
path_add_uri(char *path, size_t size, size_t *used, const char *uri)
{
	const char	*authority;
	size_t		 i, len;
	int		 byte;

	if (strncasecmp(uri, "http://", 7) == 0 || strncasecmp(uri, "https://", 8) == 0) {
		authority = strstr(uri, "://") + 3;
		uri = authority + strcspn(authority, "/?");
		if (*uri != '/')
			return (path_add(path, size, used, "/"));
	}
	len = strcspn(uri, "?");
	for (i = 0; i < len;) {
		byte = decode_byte(uri, len, &i);
		if (byte == -1 || is_control(byte) || *used + 1 >= size)
			return (-1);
		path[(*used)++] = (char)byte;
	}
	return (0);
}

int
route_path(const char *script_name, const char *path_info, const char *request_uri,
    char *path_r, size_t size)
{
	size_t	 used = 0;

	must(size > 0);
	if (path_add(path_r, size, &used, script_name) == -1 ||
	    path_add(path_r, size, &used, path_info) == -1)
		goto fail;
	if (used == 0 && request_uri != NULL &&
	    path_add_uri(path_r, size, &used, request_uri) == -1)
		goto fail;
	if (used == 0 || path_r[0] != '/')
		goto fail;
	path_r[used] = '\0';
	return (0);

fail:
	path_r[0] = '\0';
	errno = EINVAL;
	return (-1);
}

int
route_query(const char *query, const char *name, char *value_r, size_t size)
{
	size_t	 name_len = strlen(name), len, i, used = 0;
	int	 byte;

	must(size > 0);
	value_r[0] = '\0';
	errno = ENOENT;
	if (query == NULL)
		return (-1);
	for (;; query += len + 1) {
		len = strcspn(query, "&");
		i = strcspn(query, "=&");
		if (i == name_len && memcmp(query, name, i) == 0)
			break;
		if (query[len] == '\0')
			return (-1);
	}
	for (i += (i < len); i < len;) {	/* past the '=' */
		if (query[i] == '+') {
			byte = ' ';
			i++;
		} else
			byte = decode_byte(query, len, &i);
		if (byte <= 0 || used + 1 >= size) {
			value_r[0] = '\0';
			errno = EINVAL;
			return (-1);
		}
		value_r[used++] = (char)byte;
	}
	value_r[used] = '\0';
	return (0);
}
