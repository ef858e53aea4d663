/* SPDX-License-Identifier: ISC */
/*
 * peer: who asks, from the FastCGI parameters, and nothing that they do not say.
 */
#include <stdint.h>
#include <string.h>

#include "base/opts.h"
#include "unit.h"
#include "worker/peer.h"

/* Parameters as "NAME=value" pairs; NULL ends them. */
static const char *
param(const void *arg, const char *name)
{
	const char *const	*p;
	size_t			 len = strlen(name);

	for (p = arg; *p != NULL; p++)
		if (strncmp(*p, name, len) == 0 && (*p)[len] == '=')
			return (*p + len + 1);
	return (NULL);
}

static const struct {
	const char	*says, *user_param, *value;
	int64_t		 user;
} users[] = {
	{ "who is logged in", "REMOTE_USER", "REMOTE_USER=7", 7 },
	{ "the greatest id", "REMOTE_USER", "REMOTE_USER=9223372036854775807", INT64_MAX },
	{ "another parameter", "HTTP_X_USER", "REMOTE_USER=7", 0 },
	{ "nobody", "REMOTE_USER", "X=1", 0 },
	{ "an empty one", "REMOTE_USER", "REMOTE_USER=", 0 },
	{ "a name", "REMOTE_USER", "REMOTE_USER=alice", 0 },
	{ "zero", "REMOTE_USER", "REMOTE_USER=0", 0 },
	{ "a leading zero", "REMOTE_USER", "REMOTE_USER=07", 0 },
	{ "a sign", "REMOTE_USER", "REMOTE_USER=-7", 0 },
	{ "a space", "REMOTE_USER", "REMOTE_USER=7 ", 0 },
	{ "two", "REMOTE_USER", "REMOTE_USER=7,8", 0 },
	{ "one too great", "REMOTE_USER", "REMOTE_USER=9223372036854775808", 0 },
	{ "without the option nobody is asked for", NULL, "REMOTE_USER=7", 0 },
};

START_TEST(user)
{
	const char	*params[] = { users[_i].value, NULL };
	struct opts	 o = { .user_param = users[_i].user_param, .client_param = "REMOTE_ADDR" };
	struct peer	 p;

	memset(&p, 0xff, sizeof(p));
	peer_read(&p, &o, param, params);
	ck_assert_msg(p.user_id == users[_i].user, "%s: %lld", users[_i].says, (long long)p.user_id);
	ck_assert_str_eq(p.client, "");
	ck_assert_str_eq(p.origin, "");
	ck_assert(!p.cross_site);
}
END_TEST

static const struct {
	const char	*says, *list, *origin;
	bool		 allowed;
} origins[] = {
	{ "the only one", "https://a.example", "https://a.example", true },
	{ "the last", "https://b.example, https://a.example", "https://a.example", true },
	{ "without a space", "https://b.example,https://a.example", "https://a.example", true },
	{ "another port", "https://a.example", "https://a.example:8443", false },
	{ "another scheme", "https://a.example", "http://a.example", false },
	{ "a beginning", "https://a.example", "https://a.exampl", false },
	{ "more behind it", "https://a.example", "https://a.example.evil", false },
	{ "the whole list", "https://b.example,https://a.example", "https://b.example,https://a.example", false },
	{ "null", "https://a.example", "null", false },
	{ "nothing", "https://a.example", "", false },
	{ "a comma", "https://a.example", ",", false },
	{ "without the option", NULL, "https://a.example", false },
};

START_TEST(origin)
{
	char		 value[128];
	const char	*params[] = { value, "HTTP_SEC_FETCH_SITE=cross-site", NULL };
	struct opts	 o = { .allow_origin = origins[_i].list, .client_param = "REMOTE_ADDR" };
	struct peer	 p;

	snprintf(value, sizeof(value), "HTTP_ORIGIN=%s", origins[_i].origin);
	peer_read(&p, &o, param, params);
	ck_assert_msg((strcmp(p.origin, origins[_i].origin) == 0 && p.origin[0] != '\0') == origins[_i].allowed, "%s: %s",
	    origins[_i].says, p.origin);
	ck_assert(p.cross_site);
}
END_TEST

START_TEST(what_is_too_long_fits)
{
	char		 client[300] = "REMOTE_ADDR=", long_origin[400] = "HTTP_ORIGIN=", list[400];
	const char	*params[] = { client, long_origin, NULL };
	struct opts	 o = { .allow_origin = list, .client_param = "REMOTE_ADDR" };
	struct peer	 p;

	memset(client + strlen(client), 'c', 200);
	memset(long_origin + strlen(long_origin), 'o', CHAN_ORIGIN_BYTES);
	strcpy(list, long_origin + strlen("HTTP_ORIGIN="));
	peer_read(&p, &o, param, params);
	ck_assert_uint_eq(strlen(p.client), CHAN_CLIENT_BYTES - 1);
	ck_assert_str_eq(p.origin, "");		/* allowed or not: it would not be named whole */
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("peer");
	TCase	*tc = unit_case(s, "peer");

	unit_rows(tc, user, users);
	unit_rows(tc, origin, origins);
	tcase_add_test(tc, what_is_too_long_fits);
	return (unit_main(s));
}
