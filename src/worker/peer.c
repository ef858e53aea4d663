/* SPDX-License-Identifier: ISC */
#include <string.h>

#include "base/number.h"
#include "base/opts.h"
#include "worker/peer.h"

/* Is origin one of a list like "https://a.example, https://b.example"?  As bytes: browsers write it in lower case, without a default port. */
static bool
is_allowed(const char *list, const char *origin)
{
	size_t len = strlen(origin), n;

	for (; *list != '\0'; list += n) {
		list += strspn(list, ", ");
		n = strcspn(list, ", ");
		if (n == len && n > 0 && memcmp(list, origin, n) == 0)
			return (true);
	}
	return (false);
}

void
peer_read(struct peer *p, const struct opts *o, peer_param_cb *param, const void *arg)
{
	const char	*value;
	uint64_t	 id;

	memset(p, 0, sizeof(*p));
	if (o->user_param != NULL && (value = param(arg, o->user_param)) != NULL && value[0] != '0' &&
	    number_parse(value, strlen(value), 10, INT64_MAX, &id) == 0)
		p->user_id = (int64_t)id;
	/* one that is too long is cut: who has such a name shares it with those who begin with it */
	if ((value = param(arg, o->client_param)) != NULL)
		strncpy(p->client, value, sizeof(p->client) - 1);
	if (o->allow_origin != NULL && (value = param(arg, "HTTP_ORIGIN")) != NULL &&
	    strlen(value) < sizeof(p->origin) && is_allowed(o->allow_origin, value))
		strcpy(p->origin, value);
	p->cross_site = (value = param(arg, "HTTP_SEC_FETCH_SITE")) != NULL && strcmp(value, "cross-site") == 0;
}
