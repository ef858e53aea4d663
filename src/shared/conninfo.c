/* SPDX-License-Identifier: ISC */
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "shared/conninfo.h"

/*
 * libpq asks who the user is, and glibc reads nsswitch.conf when it is first asked:
 * without memory in that moment it ends the process.  Children have it then.
 */
void
conninfo_prepare(void)
{
	PQconninfoFree(PQconndefaults());
}

/*
 * An @ or / in a URI's password that is not encoded splits it in wrong places:
 * libpq would then show parts of it as a host's name or port.
 */
bool
conninfo_ok(const char *conninfo)
{
	bool			 uri = strstr(conninfo, "://") != NULL, ok;
	PQconninfoOption	*options = PQconninfoParse(conninfo, NULL), *p;

	ok = options != NULL;
	for (p = options; ok && p->keyword != NULL; p++) {
		if (p->val == NULL)
			continue;
		if (strcmp(p->keyword, "port") == 0)
			ok = strspn(p->val, "0123456789,") == strlen(p->val);
		else if (strncmp(p->keyword, "host", 4) == 0 || (uri && strcmp(p->keyword, "dbname") == 0))
			ok = strchr(p->val, '@') == NULL || p->val[0] == '@';	/* "@name": an abstract socket */
	}
	PQconninfoFree(options);
	return (ok);
}

/* One in a file is in that file: who may read it needs no memory of ours. */
bool
conninfo_has_password(const char *conninfo)
{
	const char		*variable = getenv("PGPASSWORD");
	bool			 has = variable != NULL && variable[0] != '\0';
	PQconninfoOption	*options = PQconninfoParse(conninfo != NULL ? conninfo : "", NULL), *p;

	for (p = options; !has && p != NULL && p->keyword != NULL; p++)
		has = p->val != NULL && p->val[0] != '\0' &&
		    (strcmp(p->keyword, "password") == 0 || strcmp(p->keyword, "sslpassword") == 0);
	PQconninfoFree(options);
	return (has);
}

/*
 * libpq has no SQLSTATE for an attempt to connect, only the server's words; in
 * another language than English there is no advice, and the words are there.
 */
const char *
conninfo_advice(const char *error)
{
	static const struct {
		const char *words, *advice;
	} causes[] = {
		{ "password authentication failed", "give the role's password in PGPASSWORD or a passfile, or set it: ALTER ROLE ... PASSWORD" },
		{ "no password supplied", "the server wants a password: PGPASSWORD or a passfile" },
		{ "Peer authentication failed", "this system user may not be that role over the unix socket: run as the user of its name, map the two "
		    "in pg_ident.conf, or connect with host=localhost and a password" },
		{ "Ident authentication failed", "this system user may not be that role: map the two in pg_ident.conf, or use a password" },
		{ "no pg_hba.conf entry", "add a line for this host, role and database to pg_hba.conf, and reload the server" },
		{ "is not permitted to log in", "let it: ALTER ROLE ... LOGIN" },
		{ "permission denied for database", "let it in: GRANT CONNECT ON DATABASE ... TO ..." },
		{ "role \"", "make the roles: psql -f sql/install.sql; or mend the name in --database" },
		{ "database \"", "make it: createdb and psql -f sql/install.sql; or mend the name in --database" },
		{ "certificate verify failed", "look at sslrootcert and sslmode in --database" },
	};
	size_t i;

	for (i = 0; i < nitems(causes); i++)
		if (strstr(error, causes[i].words) != NULL &&
		    (strchr(causes[i].words, '"') == NULL || strstr(error, "\" does not exist") != NULL))
			return (causes[i].advice);
	return (NULL);
}
