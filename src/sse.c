/*
 * A block may have tens of thousands of seats and an init is built of all of
 * them, so one seat must not cost an object tree: one json-c object is made per
 * call, its two leaves get the next seat's values, and it is printed again.
 * Only the brackets and commas around those objects are written by hand.
 *
 * Every payload is one line (json-c escapes line ends), hence one data field.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "http.h"
#include "must.h"
#include "sse.h"

#define JSON_FLAGS	(JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
#define FIRST_MS	INT64_C(-62135596800000)	/* 0001-01-01T00:00:00.000Z */
#define LAST_MS		INT64_C(253402300799999)	/* 9999-12-31T23:59:59.999Z */

/* {"<id_key>":1,"status":"HOLD"}, to be printed once per seat. */
struct seat_json {
	struct json_object	*object;	/* owns the two leaves */
	struct json_object	*id;
	struct json_object	*status;
};

int
sse_id_parse(const char *text, struct sse_id *id_r)
{
	struct sse_id	 id = { 0, 0 };
	size_t		 i;
	unsigned	 digit;

	if (text == NULL)
		return (-1);
	for (i = 0; i < 8; i++) {
		if (text[i] >= '0' && text[i] <= '9')
			digit = (unsigned)(text[i] - '0');
		else if (text[i] >= 'a' && text[i] <= 'f')
			digit = (unsigned)(text[i] - 'a') + 10;
		else
			return (-1);
		id.epoch = id.epoch << 4 | digit;
	}
	if (text[8] != '-' || text[9] == '0')
		return (-1);
	for (i = 9; text[i] >= '0' && text[i] <= '9'; i++) {
		digit = (unsigned)(text[i] - '0');
		if (id.version > (UINT64_MAX - digit) / 10)
			return (-1);
		id.version = id.version * 10 + digit;
	}
	if (text[i] != '\0' || id.epoch == 0 || id.version == 0)
		return (-1);
	*id_r = id;
	return (0);
}

void
sse_id_format(char *out, struct sse_id id)
{
	snprintf(out, SSE_ID_BYTES, "%08" PRIx32 "-%" PRIu64, id.epoch, id.version);
}

static void
put_id(struct buf *b, struct sse_id id)
{
	char	 text[SSE_ID_BYTES];

	sse_id_format(text, id);
	buf_printf(b, "id: %s\n", text);
}

static int
seat_json_init(struct seat_json *sj, const char *id_key)
{
	sj->id = json_object_new_int64(0);
	sj->status = json_object_new_string("");
	sj->object = json_object_new_object();
	if (sj->id == NULL || sj->status == NULL || sj->object == NULL)
		goto fail;
	if (json_object_object_add(sj->object, id_key, sj->id) != 0)
		goto fail;
	if (json_object_object_add(sj->object, "status", sj->status) != 0) {
		sj->id = NULL;		/* the object has it */
		goto fail;
	}
	return (0);

fail:
	json_object_put(sj->object);	/* each accepts NULL */
	json_object_put(sj->id);
	json_object_put(sj->status);
	return (-1);
}

static void
seat_json_put(struct buf *b, struct seat_json *sj, const struct seat *seat)
{
	const char	*text;
	size_t		 len;

	if (!json_object_set_int64(sj->id, seat->id) ||
	    !json_object_set_string(sj->status, seat_status_name(seat->status)) ||
	    (text = json_object_to_json_string_length(sj->object, JSON_FLAGS, &len)) == NULL)
		b->failed = true;
	else
		buf_add(b, text, len);
}

static void
seat_json_fini(struct seat_json *sj)
{
	json_object_put(sj->object);
}

void
sse_retry(struct buf *b, unsigned ms)
{
	buf_printf(b, "retry: %u\n\n", ms);
}

void
sse_snapshot_json(struct buf *b, const struct seat_map *seats)
{
	struct seat_json	 sj;
	size_t			 i, n = seat_count(seats);

	if (seat_json_init(&sj, "id") == -1) {
		b->failed = true;
		return;
	}
	buf_puts(b, "{\"status\":200,\"data\":{\"seats\":[");
	for (i = 0; i < n; i++) {
		if (i > 0)
			buf_puts(b, ",");
		seat_json_put(b, &sj, seat_at(seats, i));
	}
	buf_puts(b, "]}}");
	seat_json_fini(&sj);
}

void
sse_init(struct buf *b, struct sse_id id, const struct seat_map *seats)
{
	put_id(b, id);
	buf_puts(b, "event: init\ndata: ");
	sse_snapshot_json(b, seats);
	buf_puts(b, "\n\n");
}

static bool
is_news(const struct sse_known *known, const struct seat *seat)
{
	bool ahead = known->ahead_seat != SSE_NO_SEAT && seat->id >= known->ahead_seat;

	return (seat->version > (ahead ? known->ahead_version : known->version));
}

/* One past the last seat that is news; 0: none is. */
static size_t
changed_end(const struct seat_map *seats, const struct sse_known *known)
{
	size_t	 i;

	for (i = seat_count(seats); i > 0; i--)
		if (is_news(known, seat_at(seats, i - 1)))
			break;
	return (i);
}

size_t
sse_updates_part(struct buf *b, struct sse_id id, const struct seat_map *seats,
    const struct sse_known *known, int64_t from, size_t max_bytes, int64_t *next_r)
{
	struct seat_json	 sj;
	size_t			 i, end = changed_end(seats, known), began = b->len, n = 0;

	*next_r = SSE_NO_SEAT;
	if ((i = seat_lower_bound(seats, from)) >= end)
		return (0);
	if (seat_json_init(&sj, "seatId") == -1) {
		b->failed = true;
		return (0);
	}
	for (; i < end; i++) {
		if (!is_news(known, seat_at(seats, i)))
			continue;
		if (b->len - began >= max_bytes) {
			*next_r = seat_at(seats, i)->id;
			break;
		}
		if (i == end - 1)
			put_id(b, id);
		buf_puts(b, "event: update\ndata: {\"status\":200,\"data\":");
		seat_json_put(b, &sj, seat_at(seats, i));
		buf_puts(b, "}\n\n");
		n++;
	}
	seat_json_fini(&sj);
	return (n);
}

/* beat, stale and fresh differ in name and status only; a time needs no escaping. */
static void
put_as_of(struct buf *b, const char *event, int status, int64_t as_of_ms)
{
	char	 time[SSE_TIME_BYTES];

	sse_time_format(time, as_of_ms);
	buf_printf(b, "event: %s\ndata: {\"status\":%d,\"data\":{\"asOf\":\"%s\"}}\n\n",
	    event, status, time);
}

void
sse_beat(struct buf *b, int64_t as_of_ms)
{
	put_as_of(b, "beat", 200, as_of_ms);
}

void
sse_stale(struct buf *b, int64_t as_of_ms)
{
	put_as_of(b, "stale", 503, as_of_ms);
}

void
sse_fresh(struct buf *b, int64_t as_of_ms)
{
	put_as_of(b, "fresh", 200, as_of_ms);
}

void
sse_busy(struct buf *b, unsigned retry_ms, const char *message)
{
	sse_retry(b, retry_ms);
	buf_puts(b, "event: busy\ndata: ");
	http_error_json(b, 503, message);
	buf_puts(b, "\n\n");
}

void
sse_time_format(char *out, int64_t unix_ms)
{
	struct tm	 tm;
	time_t		 seconds;
	char		 rest[16];
	int		 ms;

	if (unix_ms < FIRST_MS)
		unix_ms = FIRST_MS;
	if (unix_ms > LAST_MS)
		unix_ms = LAST_MS;
	seconds = (time_t)(unix_ms / 1000);
	ms = (int)(unix_ms % 1000);
	if (ms < 0) {			/* before 1970: C rounds towards zero */
		ms += 1000;
		seconds--;
	}
	must(gmtime_r(&seconds, &tm) != NULL);
	/* strftime's %Y has no leading zeros; its result is always 15 bytes here. */
	strftime(rest, sizeof(rest), "-%m-%dT%H:%M:%S", &tm);
	snprintf(out, SSE_TIME_BYTES, "%04u%s.%03uZ", (unsigned)(tm.tm_year + 1900) % 10000, rest,
	    (unsigned)ms % 1000);
}
