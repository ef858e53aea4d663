/* SPDX-License-Identifier: ISC */
/*
 * names - name servers for a test, by LD_PRELOAD: db.test is 127.0.0.1, and as long
 * as the file NAMES_SILENT is there, nobody answers what it is.
 *
 *	cc -shared -fPIC -o names.so names.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
	union {
		void	*symbol;
		int	(*call)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	} libc = { dlsym(RTLD_NEXT, "getaddrinfo") };
	const char *silent = getenv("NAMES_SILENT");

	if (name == NULL || strcmp(name, "db.test") != 0)
		return (libc.call(name, service, hints, list));
	while (silent != NULL && access(silent, F_OK) == 0)
		usleep(20000);
	return (libc.call("127.0.0.1", service, hints, list));
}
