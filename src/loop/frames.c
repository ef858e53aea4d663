/* SPDX-License-Identifier: ISC */
/*
 * The whole of what changed since a version is kept in parts of about 4 KiB, each
 * a record of its own that ends between two events: where a slow viewer can be
 * taken off it.
 *
 * What is kept to be shared has a limit: viewers may choose so many different
 * views that there is more to keep than is ever shared.  Beyond it a frame is
 * encoded for each who needs it.
 */
#include <bsd/stdlib.h>
#include <stdio.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "base/buf.h"
#include "base/opts.h"
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
#define KEPT_BYTES		(8u << 20)	/* of all frames that are kept to be shared */
#define REMEMBERED		1024	/* framesets that nobody watches */

/* What is kept in a frameset: init, the news of some viewers, a body. */
enum frame_kind { FRAME_INIT, FRAME_NEWS, FRAME_SNAPSHOT, FRAME_CHANGES };

/*
 * What viewers that know the same share: the whole of their news (from
 * VIEW_BEGIN, upto the current version), or one part of a pass.
 */
struct frame_key {
	struct view_known known;
	uint64_t	 upto;		/* the version that its id names; changes: database time */
	uint64_t	 from;		/* place */
	uint64_t	 kind;		/* enum frame_kind */
};
struct frame {
	struct frame_key key;
	struct chunk	*chunk;		/* NULL: nothing is left from there */
	uint64_t	 next;		/* parts: where the next one begins */
	size_t		 body_len;	/* bodies: without framing */
	char		 etag[HTTP_ETAG_BYTES];	/* snapshots */
	UT_hash_handle	 hh;
};

struct frameset {
	struct view	 view;		/* every byte of it is set: a key */
	uint32_t	 epoch;		/* of its ids */
	size_t		 viewers;
	uint64_t	 version;	/* that the frames are of */
	int64_t		 as_of_ms;	/* poll that the bodies of changes are of */
	struct frame	*frames;
	struct frame	*latest;	/* that was asked for: most viewers ask for the same, one after the other */
	struct frameset	*prev, *next;	/* in `remembered`, when there are no viewers */
	UT_hash_handle	 hh, by_epoch;
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
	const struct opts	*opts;
	struct board_slot	*slot;
	uint32_t		 epoch;		/* of the next new view */
	struct frameset		*sets;		/* by view */
	struct frameset		*latest;	/* that was watched: most who come see the same */
	struct frameset		*epochs;	/* the same, by epoch */
	struct frameset		*remembered;	/* unwatched, oldest first */
	size_t			 nremembered;
	size_t			 kept;		/* bytes of all frames in all sets */
	int64_t			 marks_ms;	/* poll that the marks are of */
	struct chunk		*marks[FRAMES_MARKS];
	struct stuck		*stuck;
	struct buf		 scratch;
};

static const struct seat_map *
seats(const struct frames *f)
{
	return (poller_seats(f->poller));
}

/* --- framesets ------------------------------------------------------------- */

static void
frame_free(struct frames *f, struct frame *fr)
{
	f->kept -= fr->chunk != NULL ? fr->chunk->len : 0;
	chunk_unref(&fr->chunk);
	free(fr);
}

static struct frame *
frame_find(struct frameset *fs, const struct frame_key *key)
{
	struct frame *fr = fs->latest;

	if (fr != NULL && memcmp(&fr->key, key, sizeof(*key)) == 0)
		return (fr);
	HASH_FIND(hh, fs->frames, key, sizeof(*key), fr);
	if (fr != NULL)
		fs->latest = fr;
	return (fr);
}

static void
set_forget_frames(struct frames *f, struct frameset *fs)
{
	struct frame *fr, *next;

	fs->latest = NULL;
	HASH_ITER(hh, fs->frames, fr, next) {
		HASH_DEL(fs->frames, fr);
		frame_free(f, fr);
	}
}

static void
set_follow_version(struct frames *f, struct frameset *fs)
{
	uint64_t now = seat_version(seats(f));

	if (fs->version == now)
		return;
	set_forget_frames(f, fs);
	fs->version = now;
}

static void
set_free(struct frames *f, struct frameset *fs)
{
	set_forget_frames(f, fs);
	if (f->latest == fs)
		f->latest = NULL;
	HASH_DELETE(hh, f->sets, fs);
	if (fs->by_epoch.tbl != NULL)
		HASH_DELETE(by_epoch, f->epochs, fs);
	free(fs);
}

/* NULL: ENOMEM. */
static struct frameset *
set_new(struct frames *f, const struct view *v)
{
	struct frameset *fs;

	if ((fs = calloc(1, sizeof(*fs))) == NULL)
		return (NULL);
	fs->view = *v;
	fs->epoch = f->epoch;
	HASH_ADD(hh, f->sets, view, sizeof(fs->view), fs);
	if (fs->hh.tbl == NULL) {	/* HASH_NONFATAL_OOM */
		free(fs);
		return (NULL);
	}
	HASH_ADD(by_epoch, f->epochs, epoch, sizeof(fs->epoch), fs);
	if (fs->by_epoch.tbl == NULL) {
		set_free(f, fs);
		return (NULL);
	}
	if (++f->epoch == 0)
		f->epoch++;
	return (fs);
}

static void
forget_oldest(struct frames *f)
{
	struct frameset *fs = f->remembered;

	DL_DELETE(f->remembered, fs);
	f->nremembered--;
	set_free(f, fs);
}

struct frameset *
frames_watch(struct frames *f, const struct view *v)
{
	struct view	 key;
	struct frameset	*fs;

	memset(&key, 0, sizeof(key));	/* padding too */
	key.kind = v->kind;
	key.nblocks = v->nblocks;
	memcpy(key.blocks, v->blocks, v->nblocks * sizeof(key.blocks[0]));
	if ((fs = f->latest) == NULL || memcmp(&fs->view, &key, sizeof(key)) != 0)
		HASH_FIND(hh, f->sets, &key, sizeof(key), fs);
	if (fs == NULL && (fs = set_new(f, &key)) == NULL)
		return (NULL);
	f->latest = fs;
	if (fs->viewers++ == 0 && fs->prev != NULL) {
		DL_DELETE(f->remembered, fs);
		f->nremembered--;
		fs->prev = fs->next = NULL;
	}
	return (fs);
}

void
frames_unwatch(struct frames *f, struct frameset **fsp)
{
	struct frameset *fs = *fsp;

	*fsp = NULL;
	if (fs == NULL || --fs->viewers > 0)
		return;
	DL_APPEND(f->remembered, fs);
	if (++f->nremembered > REMEMBERED)
		forget_oldest(f);
}

bool
frames_knows(const struct frames *f, const struct frameset *fs, struct stream_id id)
{
	struct frameset *of;

	HASH_FIND(by_epoch, f->epochs, &id.epoch, sizeof(id.epoch), of);
	return (of != NULL && id.version >= 1 && id.version <= seat_version(seats(f)) &&
	    view_includes(&of->view, &fs->view));
}

uint64_t
frames_layout_version(const struct frames *f, const struct frameset *fs)
{
	return (view_layout_version(&fs->view, seats(f)));
}

/* --- frames ----------------------------------------------------------------- */

static struct stream_id
id_of(const struct frameset *fs, uint64_t version)
{
	return ((struct stream_id){ fs->epoch, version });
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

static int
encode_init(struct frames *f, const struct frameset *fs, struct frame *fr)
{
	sse_init(&f->scratch, id_of(fs, fs->version), &fs->view, seats(f));
	return ((fr->chunk = encode(f, 1)) != NULL ? 0 : -1);
}

/* The part of a pass that the frame's key names. */
static int
encode_part(struct frames *f, const struct frameset *fs, struct frame *fr)
{
	size_t n;

	n = sse_news_part(&f->scratch, id_of(fs, fr->key.upto), &fs->view, seats(f), &fr->key.known,
	    fr->key.from, PART_BYTES, &fr->next);
	if (n == 0 && buf_ok(&f->scratch))
		return (0);		/* nothing is left: no chunk */
	return ((fr->chunk = encode(f, (unsigned)n)) != NULL ? 0 : -1);
}

/* All of the news that the frame's key names, in parts at which a slow viewer can be taken off it. */
static int
encode_whole(struct frames *f, const struct frameset *fs, struct frame *fr)
{
	struct chunk	*p;
	unsigned	 events = 0;
	uint64_t	 from = VIEW_BEGIN;

	if ((p = chunk_new(FRAMES_REQUEST_ID, NULL, 0)) == NULL)
		return (-1);
	do {
		events += (unsigned)sse_news_part(&f->scratch, id_of(fs, fr->key.upto), &fs->view, seats(f),
		    &fr->key.known, from, PART_BYTES, &from);
		if (!buf_ok(&f->scratch))
			chunk_unref(&p);
		else if (f->scratch.len > 0)
			p = chunk_grow(p, FRAMES_REQUEST_ID, f->scratch.data, f->scratch.len, from);
		buf_reset(&f->scratch);
		if (p == NULL)
			return (-1);
	} while (from != VIEW_END);
	p->events = events;
	board_add(f->slot, BOARD_frames, events > 0);
	fr->chunk = p;
	return (0);
}

static int
encode_news(struct frames *f, const struct frameset *fs, struct frame *fr)
{
	return (fr->key.from == VIEW_BEGIN ? encode_whole(f, fs, fr) : encode_part(f, fs, fr));
}

/* What is in scratch is a body. */
static int
encode_body(struct frames *f, struct frame *fr)
{
	fr->body_len = f->scratch.len;
	if (buf_ok(&f->scratch))
		http_etag(fr->etag, f->scratch.data, f->scratch.len);
	fr->chunk = chunk_from(FRAMES_REQUEST_ID, &f->scratch);
	buf_reset(&f->scratch);
	return (fr->chunk != NULL ? 0 : -1);
}

static int
encode_snapshot(struct frames *f, const struct frameset *fs, struct frame *fr)
{
	sse_snapshot_json(&f->scratch, &fs->view, seats(f));
	return (encode_body(f, fr));
}

static int
encode_changes(struct frames *f, const struct frameset *fs, struct frame *fr)
{
	sse_changes_json(&f->scratch, id_of(fs, fs->version), (int64_t)fr->key.upto, &fs->view, seats(f),
	    fr->key.known.version);
	return (encode_body(f, fr));
}

/* Keep a frame for others, if there is room.  false: it is the caller's alone. */
static bool
keep(struct frames *f, struct frameset *fs, struct frame *fr)
{
	size_t len = fr->chunk != NULL ? fr->chunk->len : 0;

	if (f->kept + len > KEPT_BYTES)
		return (false);
	HASH_ADD(hh, fs->frames, key, sizeof(fr->key), fr);
	if (fr->hh.tbl == NULL)		/* HASH_NONFATAL_OOM */
		return (false);
	f->kept += len;
	return (true);
}

/*
 * The frame of that key, made if nobody needed it before, copied to *fr_r with a
 * reference to its chunk.  0, or -1: ENOMEM.
 */
static int
get(struct frames *f, struct frameset *fs, enum frame_kind kind, const struct view_known *known, uint64_t upto,
    uint64_t from, struct frame *fr_r)
{
	static int (*const encoders[])(struct frames *, const struct frameset *, struct frame *) = {
		[FRAME_INIT]	 = encode_init,
		[FRAME_NEWS]	 = encode_news,
		[FRAME_SNAPSHOT] = encode_snapshot,
		[FRAME_CHANGES]	 = encode_changes,
	};
	struct frame_key	 key = { *known, upto, from, kind };
	struct frame		*fr;

	set_follow_version(f, fs);
	if ((fr = frame_find(fs, &key)) != NULL) {
		*fr_r = *fr;
		if (fr->chunk != NULL)
			chunk_ref(fr->chunk);
		return (0);
	}
	if ((fr = calloc(1, sizeof(*fr))) == NULL)
		return (-1);
	fr->key = key;
	if (encoders[kind](f, fs, fr) == -1) {
		free(fr);
		return (-1);
	}
	*fr_r = *fr;
	if (!keep(f, fs, fr))
		free(fr);		/* the reference goes to the caller */
	else if (fr->chunk != NULL)
		chunk_ref(fr->chunk);
	return (0);
}

static const struct view_known knows_nothing;

struct chunk *
frames_init(struct frames *f, struct frameset *fs)
{
	struct frame fr;

	return (get(f, fs, FRAME_INIT, &knows_nothing, 0, 0, &fr) == 0 ? fr.chunk : NULL);
}

struct chunk *
frames_news(struct frames *f, struct frameset *fs, const struct view_known *known)
{
	struct frame fr;

	return (get(f, fs, FRAME_NEWS, known, seat_version(seats(f)), VIEW_BEGIN, &fr) == 0 ? fr.chunk : NULL);
}

int
frames_part(struct frames *f, struct frameset *fs, const struct view_known *known, uint64_t upto,
    uint64_t from, struct chunk **part_r, uint64_t *next_r)
{
	struct frame fr;

	if (get(f, fs, FRAME_NEWS, known, upto, from, &fr) == -1)
		return (-1);
	*part_r = fr.chunk;
	*next_r = fr.next;
	return (0);
}

static void
forget_marks(struct frames *f)
{
	int i;

	for (i = 0; i < FRAMES_MARKS; i++)
		chunk_unref(&f->marks[i]);
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
	return (f->marks[mark] != NULL ? chunk_ref(f->marks[mark]) : NULL);
}

struct chunk *
frames_head(struct frames *f, const char *origin)
{
	char		 cors[HTTP_CORS_BYTES];
	struct chunk	*p;

	http_stream_header(&f->scratch, http_cors(cors, f->opts->allow_origin, origin));
	event_retry(&f->scratch, RETRY_MS + arc4random_uniform(RETRY_JITTER_MS + 1));
	p = chunk_from(FRAMES_REQUEST_ID, &f->scratch);
	buf_reset(&f->scratch);
	return (p);
}

/* --- answers ---------------------------------------------------------------- */

/*
 * How long an answer may be shown: a second, and while another is fetched.  What
 * comes from memory while the database is away says how old it is, and may not
 * be shown for longer than that second.
 */
static void
put_freshness(const struct frames *f, struct buf *b)
{
	char	 time[EVENT_TIME_BYTES];
	int64_t	 age_s = poller_age_ms(f->poller) / 1000;

	event_time_format(time, poller_as_of_ms(f->poller));
	buf_printf(b, "As-Of: %s\r\n", time);
	if (poller_is_stale(f->poller))
		buf_printf(b, "Age: %lld\r\nCache-Control: public, max-age=%lld\r\n", (long long)age_s,
		    (long long)age_s + 1);
	else
		buf_puts(b, "Cache-Control: public, max-age=1, stale-while-revalidate=5\r\n");
}

/* They say when they were so: others with the next poll, news or not. */
static void
forget_old_changes(struct frames *f, struct frameset *fs, int64_t as_of_ms)
{
	struct frame *fr, *next;

	if (fs->as_of_ms == as_of_ms)
		return;
	fs->as_of_ms = as_of_ms;
	fs->latest = NULL;
	HASH_ITER(hh, fs->frames, fr, next)
		if (fr->key.kind == FRAME_CHANGES) {
			HASH_DEL(fs->frames, fr);
			frame_free(f, fr);
		}
}

static int
get_body(struct frames *f, struct frameset *fs, const struct chan_handover *h, struct frame *fr_r)
{
	struct view_known	known = { 0, VIEW_END, 0 };
	int64_t			as_of_ms = poller_as_of_ms(f->poller);

	if (h->kind == CHAN_SNAPSHOT)
		return (get(f, fs, FRAME_SNAPSHOT, &known, 0, 0, fr_r));
	forget_old_changes(f, fs, as_of_ms);
	if (frames_knows(f, fs, h->resume) && h->resume.version >= frames_layout_version(f, fs))
		known.version = h->resume.version;
	return (get(f, fs, FRAME_CHANGES, &known, (uint64_t)as_of_ms, 0, fr_r));
}

/* A chunk for another request id than that of shared frames; takes the reference.  NULL: ENOMEM, or p was. */
static struct chunk *
address(struct chunk *p, uint16_t request_id)
{
	struct chunk *own;

	if (p == NULL || request_id == FRAMES_REQUEST_ID)
		return (p);
	own = chunk_readdressed(p, request_id);
	chunk_unref(&p);
	return (own);
}

int
frames_answer(struct frames *f, struct frameset *fs, const struct chan_handover *h,
    struct chunk **head_r, struct chunk **body_r)
{
	struct buf	headers = BUF_INIT;
	struct frame	fr;
	char		cors[HTTP_CORS_BYTES];
	bool		same, body;

	if (get_body(f, fs, h, &fr) == -1)
		return (-1);
	same = h->kind == CHAN_SNAPSHOT && h->if_none_match[0] != '\0' && http_etag_matches(h->if_none_match, fr.etag);
	body = !same && !h->head;
	if (h->kind == CHAN_SNAPSHOT)
		buf_printf(&headers, "ETag: \"%s\"\r\n", fr.etag);
	put_freshness(f, &headers);
	buf_puts(&headers, http_cors(cors, f->opts->allow_origin, h->origin));
	if (!buf_ok(&headers))
		f->scratch.failed = true;
	else
		http_answer(&f->scratch, same ? 304 : 200, same ? NULL : "application/json", headers.data, NULL,
		    fr.body_len, true);
	buf_fini(&headers);
	*head_r = chunk_from(h->request_id, &f->scratch);
	buf_reset(&f->scratch);
	if (!body)
		chunk_unref(&fr.chunk);
	*body_r = address(fr.chunk, h->request_id);
	if (*head_r != NULL && (*body_r != NULL) == body)
		return (0);
	chunk_unref(head_r);
	chunk_unref(body_r);
	return (-1);
}

/* --- publication ------------------------------------------------------------ */

struct chunk *
frames_stuck_part(struct frames *f, struct chunk *p, size_t offset, size_t *start_r, uint64_t *next_r)
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

static void
forget_stuck(struct frames *f)
{
	struct stuck *st, *next;

	HASH_ITER(hh, f->stuck, st, next) {
		HASH_DEL(f->stuck, st);
		chunk_unref(&st->whole);
		chunk_unref(&st->part);
		free(st);
	}
}

void
frames_published(struct frames *f)
{
	struct frameset *fs;

	forget_stuck(f);
	for (fs = f->sets; f->kept > 0 && fs != NULL; fs = fs->hh.next)
		set_follow_version(f, fs);
}

/* --- life ------------------------------------------------------------------- */

struct frames *
frames_new(const struct poller *poller, const struct opts *o, struct board_slot *slot, uint32_t epoch)
{
	struct frames *f;

	if ((f = calloc(1, sizeof(*f))) == NULL)
		return (NULL);
	f->poller = poller;
	f->opts = o;
	f->slot = slot;
	f->epoch = epoch;
	return (f);
}

void
frames_free(struct frames **fp)
{
	struct frames	*f = *fp;
	struct frameset	*fs, *next;

	if (f == NULL)
		return;
	HASH_ITER(hh, f->sets, fs, next)
		set_free(f, fs);
	forget_marks(f);
	forget_stuck(f);
	buf_fini(&f->scratch);
	free(f);
	*fp = NULL;
}
