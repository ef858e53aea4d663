/* SPDX-License-Identifier: ISC */
/*
 * fuzz route: an input is lines: method, SCRIPT_NAME, PATH_INFO, REQUEST_URI,
 * query; a missing line is NULL.  What must hold: paths begin with a slash and
 * have no control byte, ids of a 200 are ids, and it does not crash.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "worker/route.h"

#define LINES	5

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check_path(const char *method, const char *script, const char *info, const char *uri)
{
	struct route	 r;
	const char	*p;
	char		 path[256];
	int		 status;

	if (route_path(script, info, uri, path, sizeof(path)) == -1)
		return;
	must(path[0] == '/' && strlen(path) < sizeof(path));
	for (p = path; *p != '\0'; p++)
		must((unsigned char)*p >= ' ' && *p != 0x7f);
	status = route_find(method, path, &r);
	must(status == 200 || status == 400 || status == 404 || status == 405);
	must(status != 405 || r.allow != NULL);
	must(status != 200 || (r.ids[0] >= 0 && r.ids[1] >= 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	*text, *rest, *line[LINES] = { NULL };
	char	 value[64];
	int64_t	 id;
	size_t	 i;

	if ((text = malloc(size + 1)) == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	for (i = 0, rest = text; i < LINES && rest != NULL; i++)
		line[i] = strsep(&rest, "\n");
	check_path(line[0], line[1], line[2], line[3]);
	check_path(line[0], NULL, NULL, line[3]);
	if (route_query(line[4], "lastEventId", value, sizeof(value)) == 0)
		must(strlen(value) < sizeof(value));
	if (route_id(text, size, &id) == 0)
		must(id >= 1);
	free(text);
	return (0);
}
