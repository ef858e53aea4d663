/* SPDX-License-Identifier: ISC */
/*
 * Two arrays: the seats by ascending block and id, the blocks by ascending id.
 * A batch is put in the same order first, of several rows for one seat only the
 * last is kept (an intermediate state that nobody could see must not make a
 * version), and everything that can fail is allocated before the first seat is
 * touched: so ENOMEM leaves the map as it was.
 *
 * Whether a seat changed is decided in one place (seat_set), from its effective
 * status before and after; there the counts of its block follow.  A row with a
 * hold that is over is AVAILABLE from the start, so a hold never comes back to
 * life by being told again.
 *
 * A batch costs what it touches: only blocks with a row or an ended hold are
 * walked for the next expiry, and a snapshot that names the very seats that are
 * in memory, as a reconcile does nearly always, is taken in where they are.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "loop/seat.h"

struct seat_map {
	struct seat		*seats;
	size_t			 count;
	struct seat_block	*blocks;
	size_t			 nblocks;
	uint64_t		 version;
	uint64_t		 blocks_version;
	int64_t			 next_expiry_ms;	/* earliest of all blocks */
};

/* A batch in the making: when it happens, which version it makes, what came of it. */
struct batch {
	int64_t			 now_ms;
	uint64_t		 version;
	struct seat_outcome	 outcome;
};

/* The rows of a batch by ascending block and id, each seat once. */
struct row_list {
	const struct seat_row	 *rows;
	const struct seat_row	**order;	/* NULL: rows are so already */
	size_t			  count;
};

struct seat_map *
seat_map_new(void)
{
	struct seat_map	*m;

	if ((m = calloc(1, sizeof(*m))) == NULL)
		return (NULL);
	m->next_expiry_ms = SEAT_NO_EXPIRY;
	return (m);
}

void
seat_map_free(struct seat_map **mp)
{
	if (*mp == NULL)
		return;
	free((*mp)->seats);
	free((*mp)->blocks);
	free(*mp);
	*mp = NULL;
}

uint64_t
seat_version(const struct seat_map *m)
{
	return (m->version);
}

size_t
seat_count(const struct seat_map *m)
{
	return (m->count);
}

const struct seat *
seat_at(const struct seat_map *m, size_t i)
{
	must(i < m->count);
	return (&m->seats[i]);
}

int64_t
seat_next_expiry(const struct seat_map *m)
{
	return (m->next_expiry_ms);
}

uint64_t
seat_blocks_version(const struct seat_map *m)
{
	return (m->blocks_version);
}

size_t
seat_block_count(const struct seat_map *m)
{
	return (m->nblocks);
}

const struct seat_block *
seat_block_at(const struct seat_map *m, size_t i)
{
	must(i < m->nblocks);
	return (&m->blocks[i]);
}

static struct seat_block *
block_find(const struct seat_map *m, int64_t id)
{
	size_t	 low = 0, high = m->nblocks, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (m->blocks[mid].id == id)
			return (&m->blocks[mid]);
		if (m->blocks[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return (NULL);
}

const struct seat_block *
seat_block_find(const struct seat_map *m, int64_t block_id)
{
	return (block_find(m, block_id));
}

size_t
seat_lower_bound(const struct seat_map *m, const struct seat_block *b, int64_t id)
{
	size_t	 low = b->first, high = b->end, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (m->seats[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return (low);
}

static bool
is_over(enum seat_status status, int64_t expires_ms, int64_t now_ms)
{
	return (status == SEAT_HOLD && expires_ms != SEAT_NO_EXPIRY && expires_ms <= now_ms);
}

/* --- the rows of a batch -------------------------------------------------- */

/* Below, at or above 0: a's place is before, at or after b's. */
static int
compare_places(int64_t a_block, int64_t a_id, int64_t b_block, int64_t b_id)
{
	if (a_block != b_block)
		return (a_block < b_block ? -1 : 1);
	return (a_id < b_id ? -1 : a_id > b_id);
}

/*
 * By place; rows of one seat in the order they came.  Both point into one array,
 * so comparing the pointers is comparing the order.
 */
static int
row_order(const void *va, const void *vb)
{
	const struct seat_row	*a = *(const struct seat_row *const *)va;
	const struct seat_row	*b = *(const struct seat_row *const *)vb;
	int			 order = compare_places(a->block_id, a->id, b->block_id, b->id);

	return (order != 0 ? order : a < b ? -1 : a > b);
}

static bool
is_sorted(const struct seat_row *rows, size_t nrows)
{
	size_t	 i;

	for (i = 1; i < nrows; i++)
		if (compare_places(rows[i - 1].block_id, rows[i - 1].id, rows[i].block_id, rows[i].id) >= 0)
			return (false);
	return (true);
}

/* 0; -1: ENOMEM.  The database mostly sends them in order already: then there is nothing to do. */
static int
row_list_init(struct row_list *list, const struct seat_row *rows, size_t nrows)
{
	size_t	 i, kept = 0;

	*list = (struct row_list){ rows, NULL, nrows };
	if (is_sorted(rows, nrows))
		return (0);
	if ((list->order = calloc(nrows, sizeof(*list->order))) == NULL)
		return (-1);
	for (i = 0; i < nrows; i++)
		list->order[i] = &rows[i];
	qsort(list->order, nrows, sizeof(*list->order), row_order);
	for (i = 0; i < nrows; i++) {
		if (kept > 0 && list->order[kept - 1]->id == list->order[i]->id &&
		    list->order[kept - 1]->block_id == list->order[i]->block_id)
			kept--;		/* superseded by this one */
		list->order[kept++] = list->order[i];
	}
	list->count = kept;
	return (0);
}

static void
row_list_fini(struct row_list *list)
{
	free(list->order);
}

static const struct seat_row *
row_at(const struct row_list *list, size_t i)
{
	return (list->order != NULL ? list->order[i] : &list->rows[i]);
}

/* --- a batch -------------------------------------------------------------- */

/* Before a seat of this block changes in a batch. */
static void
touch(struct seat_block *blk)
{
	if (blk->touched)
		return;
	memcpy(blk->was, blk->counts, sizeof(blk->was));
	blk->touched = true;
}

/* The one place where a known seat changes. */
static bool
seat_set(struct seat *s, struct seat_block *blk, enum seat_status status, int64_t expires_ms, struct batch *b)
{
	s->expires_ms = (status == SEAT_HOLD ? expires_ms : SEAT_NO_EXPIRY);
	if (s->status == status)
		return (false);
	blk->counts[s->status]--;
	blk->counts[status]++;
	blk->seats_version = b->version;
	s->status = status;
	s->version = b->version;
	b->outcome.changed++;
	return (true);
}

/*
 * What the database says about a seat in memory.  When memory's hold is over as
 * well and the row still calls it a hold, the clock made the change, not the row.
 */
static void
seat_set_row(struct seat *s, struct seat_block *blk, const struct seat_row *row, struct batch *b)
{
	bool			 clock = is_over(s->status, s->expires_ms, b->now_ms);
	bool			 over = is_over(row->status, row->expires_ms, b->now_ms);
	enum seat_status	 status = (over ? SEAT_AVAILABLE : row->status);

	touch(blk);
	if (seat_set(s, blk, status, row->expires_ms, b) && clock && over)
		b->outcome.expired++;
}

/* A seat that memory does not have yet. */
static void
seat_new(struct seat *s, struct seat_block *blk, const struct seat_row *row, struct batch *b)
{
	bool	 over = is_over(row->status, row->expires_ms, b->now_ms);

	s->id = row->id;
	s->status = (over ? SEAT_AVAILABLE : row->status);
	s->expires_ms = (s->status == SEAT_HOLD ? row->expires_ms : SEAT_NO_EXPIRY);
	s->version = b->version;
	blk->counts[s->status]++;
	blk->seats_version = b->version;
	b->outcome.changed++;
}

/* One pass over a block: end the holds that are over, find the earliest of the others. */
static void
expire_block(struct seat_map *m, struct seat_block *blk, struct batch *b)
{
	struct seat	*s;

	touch(blk);
	blk->next_expiry_ms = SEAT_NO_EXPIRY;
	for (s = m->seats + blk->first; s < m->seats + blk->end; s++) {
		if (is_over(s->status, s->expires_ms, b->now_ms) &&
		    seat_set(s, blk, SEAT_AVAILABLE, SEAT_NO_EXPIRY, b))
			b->outcome.expired++;
		if (s->expires_ms < blk->next_expiry_ms)
			blk->next_expiry_ms = s->expires_ms;
	}
}

/* What the rows did not say: ended holds, then which counts are others now. */
static void
finish(struct seat_map *m, struct batch *b)
{
	struct seat_block	*blk;

	m->next_expiry_ms = SEAT_NO_EXPIRY;
	for (blk = m->blocks; blk < m->blocks + m->nblocks; blk++) {
		if (blk->touched || blk->next_expiry_ms <= b->now_ms)
			expire_block(m, blk, b);
		if (blk->touched && memcmp(blk->was, blk->counts, sizeof(blk->was)) != 0)
			blk->counts_version = b->version;
		blk->touched = false;
		if (blk->next_expiry_ms < m->next_expiry_ms)
			m->next_expiry_ms = blk->next_expiry_ms;
	}
	if (b->outcome.changed > 0)
		m->version = b->version;
}

static void
apply_changes(struct seat_map *m, const struct row_list *list, struct batch *b)
{
	size_t	 i, at;

	for (i = 0; i < list->count; i++) {
		const struct seat_row	*row = row_at(list, i);
		struct seat_block	*blk = block_find(m, row->block_id);

		if (blk == NULL || (at = seat_lower_bound(m, blk, row->id)) == blk->end ||
		    m->seats[at].id != row->id)
			b->outcome.unknown++;
		else
			seat_set_row(&m->seats[at], blk, row, b);
	}
}

/* --- a snapshot ------------------------------------------------------------ */

/* Are these rows the very seats that are in memory? */
static bool
is_same_layout(const struct seat_map *m, const struct row_list *list)
{
	size_t	 i;

	if (list->count != m->count)
		return (false);
	for (i = 0; i < m->count; i++) {
		const struct seat_row	*row = row_at(list, i);

		if (row->id != m->seats[i].id || row->block_id != m->blocks[m->seats[i].block].id)
			return (false);
	}
	return (true);
}

static void
apply_in_place(struct seat_map *m, const struct row_list *list, struct batch *b)
{
	size_t	 i;

	for (i = 0; i < list->count; i++)
		seat_set_row(&m->seats[i], &m->blocks[m->seats[i].block], row_at(list, i), b);
}

static size_t
count_blocks(const struct row_list *list)
{
	size_t	 i, n = 0;

	for (i = 0; i < list->count; i++)
		n += i == 0 || row_at(list, i)->block_id != row_at(list, i - 1)->block_id;
	return (n);
}

/* An empty block for the seats from `first` on; what memory knew of it stays. */
static void
block_begin(struct seat_block *blk, const struct seat_block *known, int64_t id, size_t first)
{
	memset(blk, 0, sizeof(*blk));
	if (known != NULL) {
		*blk = *known;
		memcpy(blk->was, known->counts, sizeof(blk->was));
		memset(blk->counts, 0, sizeof(blk->counts));
	}
	blk->id = id;
	blk->touched = true;
	blk->first = blk->end = (uint32_t)first;
}

/*
 * Merge the seats of one block as the database tells them, from row i on, with
 * those in memory (known, NULL: none), into fresh, which has room for all rows.
 * Returns the row after the last of this block.
 */
static size_t
merge_block(const struct seat_map *m, const struct seat_block *known, const struct row_list *list, size_t i,
    struct seat *fresh, struct seat_block *blk, uint32_t number, struct batch *b)
{
	const struct seat_row	*row;
	size_t			 old = known != NULL ? known->first : 0, end = known != NULL ? known->end : 0;
	size_t			 first = old, kept = 0;

	for (; i < list->count && (row = row_at(list, i))->block_id == blk->id; i++) {
		while (old < end && m->seats[old].id < row->id)
			old++;		/* gone */
		if (old < end && m->seats[old].id == row->id) {
			fresh[i] = m->seats[old++];
			blk->counts[fresh[i].status]++;
			seat_set_row(&fresh[i], blk, row, b);
			kept++;
		} else
			seat_new(&fresh[i], blk, row, b);
		fresh[i].block = number;
	}
	blk->end = (uint32_t)i;
	if (kept < end - first || kept < blk->end - blk->first)
		blk->layout_version = b->version;
	b->outcome.changed += end - first - kept;
	return (i);
}

/* 0; -1: ENOMEM.  Seats came or went: put the seats of a snapshot in the place of those in memory. */
static int
replace(struct seat_map *m, const struct row_list *list, struct batch *b)
{
	size_t			 nblocks = count_blocks(list), n, i = 0, known_blocks = 0, known_seats = 0;
	struct seat		*fresh = calloc(list->count + 1, sizeof(*fresh));
	struct seat_block	*blocks = calloc(nblocks + 1, sizeof(*blocks));

	if (fresh == NULL || blocks == NULL) {
		free(fresh);
		free(blocks);
		return (-1);
	}
	for (n = 0; n < nblocks; n++) {
		const struct seat_block *known = block_find(m, row_at(list, i)->block_id);

		block_begin(&blocks[n], known, row_at(list, i)->block_id, i);
		i = merge_block(m, known, list, i, fresh, &blocks[n], (uint32_t)n, b);
		if (known != NULL) {
			known_blocks++;
			known_seats += known->end - known->first;
		}
	}
	b->outcome.changed += m->count - known_seats;	/* gone with their blocks */
	if (known_blocks < nblocks || known_blocks < m->nblocks || m->version == 0)
		m->blocks_version = b->version;
	free(m->seats);
	free(m->blocks);
	m->seats = fresh;
	m->count = list->count;
	m->blocks = blocks;
	m->nblocks = nblocks;
	return (0);
}

int
seat_apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows,
    int64_t now_ms, struct seat_outcome *out_r)
{
	struct batch	 b = { now_ms, m->version + 1, { 0, 0, 0 } };
	struct row_list	 list;
	bool		 first = kind == SEAT_SNAPSHOT && m->version == 0;

	must(nrows < UINT32_MAX);
	if (row_list_init(&list, rows, nrows) == -1)
		return (-1);
	if (kind == SEAT_CHANGES)
		apply_changes(m, &list, &b);
	else if (!first && is_same_layout(m, &list))
		apply_in_place(m, &list, &b);
	else if (replace(m, &list, &b) == -1) {
		row_list_fini(&list);
		return (-1);
	}
	finish(m, &b);
	if (first)
		m->version = b.version;
	row_list_fini(&list);
	*out_r = b.outcome;
	return (0);
}

size_t
seat_expire(struct seat_map *m, int64_t now_ms)
{
	struct batch	 b = { now_ms, m->version + 1, { 0, 0, 0 } };

	if (m->next_expiry_ms > now_ms)
		return (0);
	finish(m, &b);
	return (b.outcome.changed);
}

static const char *const seat_status_names[] = {
	[SEAT_AVAILABLE]	= "AVAILABLE",
	[SEAT_HOLD]		= "HOLD",
	[SEAT_OCCUPIED]		= "OCCUPIED",
};

const char *
seat_status_name(enum seat_status s)
{
	must((size_t)s < nitems(seat_status_names));
	return (seat_status_names[s]);
}

int
seat_status_parse(const char *text, size_t len, enum seat_status *status_r)
{
	size_t	 i;

	for (i = 0; i < nitems(seat_status_names); i++) {
		if (strlen(seat_status_names[i]) == len && memcmp(text, seat_status_names[i], len) == 0) {
			*status_r = (enum seat_status)i;
			return (0);
		}
	}
	return (-1);
}
