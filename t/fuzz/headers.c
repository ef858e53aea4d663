/*
 * fuzz headers: what a request says beside its path.  An input is lines:
 * Last-Event-ID, Accept, If-None-Match, the query.  What must hold: an id that is
 * understood is written again as it was; any text becomes one JSON string.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/must.h"
#include "wire/http.h"
#include "wire/stream_id.h"
#include "worker/route.h"

#define LINES	4

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check_id(const char *text)
{
	struct stream_id	 id;
	char			 again[STREAM_ID_BYTES];

	if (stream_id_parse(text, &id) == -1)
		return;
	must(id.epoch != 0 && id.version != 0);
	stream_id_format(again, id);
	must(strcmp(again, text) == 0);
}

/* A text that comes from elsewhere (a trigger's, a name) is one JSON string, whatever is in it. */
static void
check_text(const char *text, size_t len)
{
	struct buf b = BUF_INIT;

	http_json_string(&b, text, len);
	if (buf_ok(&b) && b.len > 0) {
		must(b.len >= 2 && b.data[0] == '"' && b.data[b.len - 1] == '"');
		must(memchr(b.data, '\n', b.len) == NULL && memchr(b.data, '\r', b.len) == NULL);
	}
	buf_fini(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	*text, *rest, *line[LINES] = { NULL };
	char	 value[64];
	size_t	 i;

	if ((text = malloc(size + 1)) == NULL)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	check_text(text, size);
	for (i = 0, rest = text; i < LINES && rest != NULL; i++)
		line[i] = strsep(&rest, "\n");
	check_id(line[0]);
	(void)http_accepts_sse(line[1]);
	if (line[2] != NULL)
		(void)http_etag_matches(line[2], "5f3a9c1e");
	if (route_query(line[3], "since", value, sizeof(value)) == 0) {
		must(strlen(value) < sizeof(value));
		check_id(value);
	}
	free(text);
	return (0);
}
