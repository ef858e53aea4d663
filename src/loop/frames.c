/*
 * The whole of what changed since a version is kept in parts of about 4 KiB, each
 * a record of its own that ends between two events: where a slow viewer can be
 * taken off it.
 */
#include <bsd/stdlib.h>
#include <stdio.h>
#include <string.h>

#include <uthash.h>

#include "base/buf.h"
#include "loop/frames.h"
#include "loop/poller.h"
#include "loop/sse.h"
#include "shared/board.h"
#include "shared/chan.h"
#include "wire/chunk.h"
#include "wire/event.h"
#include "wire/http.h"
#include "wire/stream_id.h"

#define RETRY_MS		2000
#define RETRY_JITTER_MS		1000
#define PART_BYTES		4000	/* of content: what a slow viewer may hold on to */
#define SNAPSHOT_HEADERS	"Cache-Control: public, max-age=1, stale-while-revalidate=5\r\n"

/*
 * What is news to viewers that know the same, shared by them: the whole of it
 * (from 0, upto the current version), or one part of a pass.
 */
struct frame_key {
	struct sse_known known;
	uint64_t	 upto;		/* the version that its id names */
	int64_t		 from;		/* seat */
};
struct frame {
	struct frame_key key;
	struct chunk	*chunk;	/* NULL: nothing is left from there */
	int64_t		 next;		/* parts: where the next one begins */
	UT_hash_handle	 hh;
};

/* The part of a chunk that somebody is stuck in: alive while one publication looks for them. */
struct stuck {
	struct {
		const struct chunk	*chunk;
		size_t			 start;
	} key;
	struct chunk	*whole;		/* key.chunk: its address stays taken */
	struct chunk	*part;
	UT_hash_handle	 hh;
};

struct frames {
	const struct poller	*poller;
	struct board_slot	*slot;
	uint32_t		 epoch;
	uint64_t		 version;	/* that the next three are of */
	struct frame		*events;
	struct chunk		*init;
	struct chunk		*snapshot;
	int64_t			 marks_ms;	/* poll that the marks are of */
	struct chunk		*marks[FRAMES_MARKS];
	struct stuck		*stuck;
	struct buf		 scratch;
};

static void
forget_version(struct frames *f)
{
	struct frame *fr, *next;

	HASH_ITER(hh, f->events, fr, next) {
		HASH_DEL(f->events, fr);
		chunk_unref(&fr->chunk);
		free(fr);
	}
	chunk_unref(&f->init);
	chunk_unref(&f->snapshot);
}

static void
forget_marks(struct frames *f)
{
	int i;

	for (i = 0; i < FRAMES_MARKS; i++)
		chunk_unref(&f->marks[i]);
}

static struct stream_id
id_of(const struct frames *f, uint64_t version)
{
	return ((struct stream_id){ f->epoch, version });
}

static struct stream_id
current_id(const struct frames *f)
{
	return (id_of(f, seat_version(poller_seats(f->poller))));
}

/* What is in scratch as a chunk with that many events.  NULL: ENOMEM. */
static struct chunk *
encode(struct frames *f, unsigned events)
{
	struct chunk *p = chunk_from(FRAMES_REQUEST_ID, &f->scratch);

	if (p != NULL)
		p->events = events;
	board_add(f->slot, BOARD_frames, 1);
	buf_reset(&f->scratch);
	return (p);
}

static void
follow_version(struct frames *f)
{
	uint64_t now = seat_version(poller_seats(f->poller));

	if (f->version == now)
		return;
	forget_version(f);
	f->version = now;
}

struct chunk *
frames_init(struct frames *f)
{
	follow_version(f);
	if (f->init == NULL) {
		sse_init(&f->scratch, current_id(f), poller_seats(f->poller));
		f->init = encode(f, 1);
	}
	return (f->init);
}

/* The part of a pass that key names into fr. */
static int
encode_part(struct frames *f, struct frame *fr)
{
	size_t n;

	n = sse_updates_part(&f->scratch, id_of(f, fr->key.upto), poller_seats(f->poller), &fr->key.known,
	    fr->key.from, PART_BYTES, &fr->next);
	if (n == 0 && buf_ok(&f->scratch))
		return (0);		/* nothing is left: no chunk */
	return ((fr->chunk = encode(f, (unsigned)n)) != NULL ? 0 : -1);
}

/* All of the news that key names into fr, in parts at which a slow viewer can be taken off it. */
static int
encode_whole(struct frames *f, struct frame *fr)
{
	struct chunk	*p;
	unsigned	 events = 0;
	int64_t		 from = 0;

	if ((p = chunk_new(FRAMES_REQUEST_ID, NULL, 0)) == NULL)
		return (-1);
	do {
		events += (unsigned)sse_updates_part(&f->scratch, id_of(f, fr->key.upto), poller_seats(f->poller),
		    &fr->key.known, from, PART_BYTES, &from);
		if (!buf_ok(&f->scratch))
			chunk_unref(&p);
		else if (f->scratch.len > 0)
			p = chunk_grow(p, FRAMES_REQUEST_ID, f->scratch.data, f->scratch.len, from);
		buf_reset(&f->scratch);
		if (p == NULL)
			return (-1);
	} while (from != SSE_NO_SEAT);
	p->events = events;
	board_add(f->slot, BOARD_frames, 1);
	fr->chunk = p;
	fr->next = SSE_NO_SEAT;
	return (0);
}

/* The frame of that key, made if nobody needed it before; borrowed.  NULL: ENOMEM. */
static const struct frame *
get(struct frames *f, const struct sse_known *known, uint64_t upto, int64_t from)
{
	struct frame_key	 key;
	struct frame		*fr;

	memset(&key, 0, sizeof(key));
	key.known = *known;
	key.upto = upto;
	key.from = from;
	follow_version(f);
	HASH_FIND(hh, f->events, &key, sizeof(key), fr);
	if (fr != NULL)
		return (fr);
	if ((fr = calloc(1, sizeof(*fr))) == NULL)
		return (NULL);
	fr->key = key;
	if ((from == 0 ? encode_whole(f, fr) : encode_part(f, fr)) == -1) {
		free(fr);
		return (NULL);
	}
	HASH_ADD(hh, f->events, key, sizeof(fr->key), fr);
	if (fr->hh.tbl == NULL) {	/* HASH_NONFATAL_OOM */
		chunk_unref(&fr->chunk);
		free(fr);
		return (NULL);
	}
	return (fr);
}

struct chunk *
frames_news(struct frames *f, const struct sse_known *known)
{
	const struct frame *fr = get(f, known, seat_version(poller_seats(f->poller)), 0);

	return (fr != NULL ? fr->chunk : NULL);
}

int
frames_part(struct frames *f, const struct sse_known *known, uint64_t upto, int64_t from,
    struct chunk **part_r, int64_t *next_r)
{
	const struct frame *fr;

	if ((fr = get(f, known, upto, from)) == NULL)
		return (-1);
	*part_r = fr->chunk;
	*next_r = fr->next;
	return (0);
}

struct chunk *
frames_mark(struct frames *f, enum frames_mark mark)
{
	static void (*const write[FRAMES_MARKS])(struct buf *, int64_t) = { event_beat, event_stale, event_fresh };
	int64_t as_of = poller_as_of_ms(f->poller);

	if (f->marks_ms != as_of) {
		forget_marks(f);
		f->marks_ms = as_of;
	}
	if (f->marks[mark] == NULL) {
		write[mark](&f->scratch, as_of);
		f->marks[mark] = encode(f, 1);
	}
	return (f->marks[mark]);
}

struct chunk *
frames_head(struct frames *f)
{
	http_stream_header(&f->scratch, NULL);
	event_retry(&f->scratch, RETRY_MS + arc4random_uniform(RETRY_JITTER_MS + 1));
	return (encode(f, 0));
}

/* Into scratch: 200 with the seats, or 304. */
static void
put_snapshot(struct frames *f, const struct chan_handover *h)
{
	struct buf	body = BUF_INIT;
	char		id[STREAM_ID_BYTES], headers[256];

	stream_id_format(id, current_id(f));
	snprintf(headers, sizeof(headers), "ETag: \"%s\"\r\n" SNAPSHOT_HEADERS, id);
	if (http_etag_matches(h->if_none_match[0] != '\0' ? h->if_none_match : NULL, id)) {
		http_answer(&f->scratch, 304, NULL, headers, NULL, 0, h->head);
		return;
	}
	sse_snapshot_json(&body, poller_seats(f->poller));
	if (buf_ok(&body))
		http_answer(&f->scratch, 200, "application/json", headers, body.data, body.len, h->head);
	else
		f->scratch.failed = true;
	buf_fini(&body);
}

struct chunk *
frames_snapshot(struct frames *f, const struct chan_handover *h)
{
	bool		 plain = !h->head && h->if_none_match[0] == '\0' && h->request_id == FRAMES_REQUEST_ID;
	struct chunk	*p;

	follow_version(f);
	if (plain && f->snapshot != NULL)
		return (chunk_ref(f->snapshot));
	put_snapshot(f, h);
	p = chunk_from(h->request_id, &f->scratch);
	buf_reset(&f->scratch);
	if (plain && p != NULL)
		f->snapshot = chunk_ref(p);
	return (p);
}

struct chunk *
frames_stuck_part(struct frames *f, struct chunk *p, size_t offset, size_t *start_r, int64_t *next_r)
{
	struct stuck *st, *known;

	if ((st = calloc(1, sizeof(*st))) == NULL)
		return (NULL);
	if ((st->part = chunk_part_at(p, offset, start_r, next_r)) == NULL) {
		free(st);
		return (NULL);
	}
	st->key.chunk = p;
	st->key.start = *start_r;
	HASH_FIND(hh, f->stuck, &st->key, sizeof(st->key), known);
	if (known != NULL) {
		chunk_unref(&st->part);
		free(st);
		return (chunk_ref(known->part));
	}
	HASH_ADD(hh, f->stuck, key, sizeof(st->key), st);
	if (st->hh.tbl == NULL) {	/* HASH_NONFATAL_OOM */
		chunk_unref(&st->part);
		free(st);
		return (NULL);
	}
	st->whole = chunk_ref(p);
	return (chunk_ref(st->part));
}

void
frames_forget_stuck(struct frames *f)
{
	struct stuck *st, *next;

	HASH_ITER(hh, f->stuck, st, next) {
		HASH_DEL(f->stuck, st);
		chunk_unref(&st->whole);
		chunk_unref(&st->part);
		free(st);
	}
}

struct frames *
frames_new(const struct poller *poller, struct board_slot *slot, uint32_t epoch)
{
	struct frames *f;

	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	f->poller = poller;
	f->slot = slot;
	f->epoch = epoch;
	return (f);
}

void
frames_free(struct frames **fp)
{
	struct frames *f = *fp;

	if (f == NULL)
		return;
	forget_version(f);
	forget_marks(f);
	frames_forget_stuck(f);
	buf_fini(&f->scratch);
	free(f);
	*fp = NULL;
}
