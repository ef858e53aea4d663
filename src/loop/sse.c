/*
 * A block may have tens of thousands of seats, and an init is built of all of
 * them: ids are numbers and a status is one of three words, so nothing needs
 * escaping and each seat is one printf.  Every payload is one line, hence one
 * data field.
 */
#include <inttypes.h>
#include <stdbool.h>

#include "loop/sse.h"
#include "wire/stream_id.h"

/* Last of its block: clients in use take an id when its line arrives, and may only have it with everything before it. */
static void
put_id(struct buf *b, struct stream_id id)
{
	char	 text[STREAM_ID_BYTES];

	stream_id_format(text, id);
	buf_printf(b, "id: %s\n", text);
}

void
sse_snapshot_json(struct buf *b, const struct seat_map *seats)
{
	size_t	 i, n = seat_count(seats);

	buf_puts(b, "{\"status\":200,\"data\":{\"seats\":[");
	for (i = 0; i < n; i++) {
		const struct seat *s = seat_at(seats, i);

		buf_printf(b, "%s{\"id\":%" PRId64 ",\"status\":\"%s\"}", i > 0 ? "," : "", s->id,
		    seat_status_name(s->status));
	}
	buf_puts(b, "]}}");
}

void
sse_init(struct buf *b, struct stream_id id, const struct seat_map *seats)
{
	buf_puts(b, "event: init\ndata: ");
	sse_snapshot_json(b, seats);
	buf_puts(b, "\n");
	put_id(b, id);
	buf_puts(b, "\n");
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
sse_updates_part(struct buf *b, struct stream_id id, const struct seat_map *seats,
    const struct sse_known *known, int64_t from, size_t max_bytes, int64_t *next_r)
{
	size_t	 i, end = changed_end(seats, known), began = b->len, n = 0;

	*next_r = SSE_NO_SEAT;
	if (end == 0)
		return (0);
	for (i = seat_lower_bound(seats, seat_block_at(seats, 0), from); i < end; i++) {
		const struct seat *s = seat_at(seats, i);

		if (!is_news(known, s))
			continue;
		if (b->len - began >= max_bytes) {
			*next_r = s->id;
			break;
		}
		buf_printf(b, "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":%" PRId64 ",\"status\":\"%s\"}}\n",
		    s->id, seat_status_name(s->status));
		if (i == end - 1)
			put_id(b, id);
		buf_puts(b, "\n");
		n++;
	}
	return (n);
}
