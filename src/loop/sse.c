/* SPDX-License-Identifier: ISC */
/*
 * A group may have tens of thousands of seats, and an init is built of all of
 * them: ids are numbers and a status is one of three words, so nothing needs
 * escaping, and printf would take four times as long.  Every payload is one line,
 * hence one data field.
 */
#include <stdbool.h>

#include "loop/sse.h"
#include "wire/event.h"

/* Last of its block: clients in use take an id when its line arrives, and may only have it with everything before it. */
static void
put_id(struct buf *b, struct stream_id id)
{
	char	 text[STREAM_ID_BYTES];

	stream_id_format(text, id);
	buf_printf(b, "id: %s\n", text);
}

/* From a seat's number on: its block, where the view's bytes have it, and its status. */
static void
put_status(struct buf *b, const struct view *v, const struct seat_block *block, const struct seat *s)
{
	buf_putn(b, s->id);
	if (v->kind == VIEW_MATCH) {
		buf_puts(b, ",\"blockId\":");
		buf_putn(b, block->id);
	}
	buf_puts(b, ",\"status\":\"");
	buf_puts(b, seat_status_name(s->status));
	buf_puts(b, "\"}");
}

/* One seat of a list. */
static void
put_seat(struct buf *b, const struct view *v, const struct seat_block *block, const struct seat *s, bool first)
{
	buf_puts(b, first ? "{\"id\":" : ",{\"id\":");
	put_status(b, v, block, s);
}

/* "seats":[…], by block and id. */
static void
put_seats(struct buf *b, const struct view *v, const struct seat_map *seats)
{
	const struct seat_block	*block;
	bool			 first = true;
	size_t			 i, at;

	buf_puts(b, "\"seats\":[");
	for (i = 0; i < v->nblocks; i++) {
		if ((block = seat_block_find(seats, v->blocks[i])) == NULL)
			continue;
		for (at = block->first; at < block->end; at++, first = false)
			put_seat(b, v, block, seat_at(seats, at), first);
	}
	buf_puts(b, "]");
}

/* From a block's number on: how many of its seats are what. */
static void
put_counts(struct buf *b, const struct seat_block *block)
{
	buf_putn(b, block->id);
	buf_puts(b, ",\"available\":");
	buf_putn(b, block->counts[SEAT_AVAILABLE]);
	buf_puts(b, ",\"hold\":");
	buf_putn(b, block->counts[SEAT_HOLD]);
	buf_puts(b, ",\"occupied\":");
	buf_putn(b, block->counts[SEAT_OCCUPIED]);
	buf_puts(b, "}");
}

/* "blocks":[…]: all that have seats. */
static void
put_blocks(struct buf *b, const struct seat_map *seats)
{
	size_t	 i;

	buf_puts(b, "\"blocks\":[");
	for (i = 0; i < seat_block_count(seats); i++) {
		buf_puts(b, i > 0 ? ",{\"id\":" : "{\"id\":");
		put_counts(b, seat_block_at(seats, i));
	}
	buf_puts(b, "]");
}

void
sse_snapshot_json(struct buf *b, const struct view *v, const struct seat_map *seats)
{
	buf_puts(b, "{\"status\":200,\"data\":{");
	if (v->kind == VIEW_MATCH)
		put_blocks(b, seats);
	else
		put_seats(b, v, seats);
	buf_puts(b, "}}");
}

void
sse_init(struct buf *b, struct stream_id id, const struct view *v, const struct seat_map *seats)
{
	buf_puts(b, "event: init\ndata: {\"status\":200,\"data\":{");
	if (v->kind == VIEW_MATCH) {
		put_blocks(b, seats);
		buf_puts(b, ",");
	}
	put_seats(b, v, seats);
	buf_puts(b, "}}\n");
	put_id(b, id);
	buf_puts(b, "\n");
}

/* An event's lines up to its data, without the id and the empty line. */
static void
put_cell(struct buf *b, const struct view *v, const struct cell *c)
{
	if (c->seat == NULL) {
		buf_puts(b, "event: count\ndata: {\"status\":200,\"data\":{\"blockId\":");
		put_counts(b, c->block);
	} else {
		buf_puts(b, "event: update\ndata: {\"status\":200,\"data\":{\"seatId\":");
		put_status(b, v, c->block, c->seat);
	}
	buf_puts(b, "}\n");
}

size_t
sse_news_part(struct buf *b, struct stream_id id, const struct view *v, const struct seat_map *seats,
    const struct view_known *known, uint64_t from, size_t max_bytes, uint64_t *next_r)
{
	struct view_walk	 walk;
	struct cell		 cell, next;
	size_t			 began = b->len, n = 0;
	bool			 more;

	view_walk_init(&walk, v, seats, known, from);
	for (more = view_walk_next(&walk, &next); more; n++) {
		if (b->len - began >= max_bytes) {
			*next_r = next.place;
			return (n);
		}
		cell = next;
		more = view_walk_next(&walk, &next);
		put_cell(b, v, &cell);
		if (!more)
			put_id(b, id);
		buf_puts(b, "\n");
	}
	*next_r = VIEW_END;
	return (n);
}

void
sse_changes_json(struct buf *b, struct stream_id id, int64_t as_of_ms, const struct view *v,
    const struct seat_map *seats, uint64_t since)
{
	const struct view_known	 known = { since, VIEW_END, 0 };
	struct view_walk	 walk;
	struct cell		 cell;
	bool			 first = true;
	char			 id_text[STREAM_ID_BYTES], time[EVENT_TIME_BYTES];

	stream_id_format(id_text, id);
	event_time_format(time, as_of_ms);
	buf_printf(b, "{\"status\":200,\"data\":{\"id\":\"%s\",\"asOf\":\"%s\",\"seats\":[", id_text, time);
	view_walk_init(&walk, v, seats, &known, VIEW_BEGIN);
	for (; view_walk_next(&walk, &cell) && cell.seat != NULL; first = false)
		put_seat(b, v, cell.block, cell.seat, first);
	buf_puts(b, since == 0 ? "],\"full\":true}}" : "]}}");
}
