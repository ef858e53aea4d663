/*
 * An array by ascending id.  A batch is put in the same order first, of several
 * rows for one id only the last is kept (an intermediate state that nobody could
 * see must not make a version), and everything that can fail is allocated
 * before the first seat is touched: so ENOMEM leaves the map as it was.
 *
 * Whether a seat changed is decided in one place (seat_set), from its effective
 * status before and after.  A row with a hold that is over is AVAILABLE from the
 * start, so a hold never comes back to life by being told again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "loop/seat.h"

struct seat_map {
	struct seat	*seats;		/* ascending id */
	size_t		 count;
	uint64_t	 version;
	uint64_t	 layout_version;
	int64_t		 next_expiry_ms;	/* earliest of all seats */
};

/* A batch in the making: when it happens, which version it makes, what came of it. */
struct batch {
	int64_t			 now_ms;
	uint64_t		 version;
	struct seat_outcome	 outcome;
};

/* The rows of a batch by ascending id, each id once. */
struct row_list {
	const struct seat_row	**rows;
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
	free(*mp);
	*mp = NULL;
}

uint64_t
seat_version(const struct seat_map *m)
{
	return (m->version);
}

uint64_t
seat_layout_version(const struct seat_map *m)
{
	return (m->layout_version);
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

size_t
seat_lower_bound(const struct seat_map *m, int64_t id)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (m->seats[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return (low);
}

int64_t
seat_next_expiry(const struct seat_map *m)
{
	return (m->next_expiry_ms);
}

static bool
is_over(enum seat_status status, int64_t expires_ms, int64_t now_ms)
{
	return (status == SEAT_HOLD && expires_ms != SEAT_NO_EXPIRY && expires_ms <= now_ms);
}

/*
 * By id; rows of one id in the order they came.  Both point into one array, so
 * comparing the pointers is comparing the places.
 */
static int
row_order(const void *va, const void *vb)
{
	const struct seat_row	*a = *(const struct seat_row *const *)va;
	const struct seat_row	*b = *(const struct seat_row *const *)vb;

	if (a->id != b->id)
		return (a->id < b->id ? -1 : 1);
	return (a < b ? -1 : a > b);
}

/* 0; -1: ENOMEM.  The database mostly sends them in order already: then it is one pass. */
static int
row_list_init(struct row_list *list, const struct seat_row *rows, size_t nrows)
{
	bool	 sorted = true;
	size_t	 i, kept = 0;

	if ((list->rows = calloc(nrows + 1, sizeof(*list->rows))) == NULL)
		return (-1);
	for (i = 0; i < nrows; i++) {
		list->rows[i] = &rows[i];
		if (i > 0 && rows[i].id <= rows[i - 1].id)
			sorted = false;
	}
	if (!sorted)
		qsort(list->rows, nrows, sizeof(*list->rows), row_order);
	for (i = 0; i < nrows; i++) {
		if (kept > 0 && list->rows[kept - 1]->id == list->rows[i]->id)
			kept--;		/* superseded by this one */
		list->rows[kept++] = list->rows[i];
	}
	list->count = kept;
	return (0);
}

static void
row_list_fini(struct row_list *list)
{
	free(list->rows);
}

static struct seat *
seat_find(struct seat_map *m, int64_t id)
{
	size_t	 low = 0, high = m->count, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (m->seats[mid].id == id)
			return (&m->seats[mid]);
		if (m->seats[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return (NULL);
}

/* The one place where a known seat changes. */
static bool
seat_set(struct seat *s, enum seat_status status, int64_t expires_ms, struct batch *b)
{
	s->expires_ms = (status == SEAT_HOLD ? expires_ms : SEAT_NO_EXPIRY);
	if (s->status == status)
		return (false);
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
seat_set_row(struct seat *s, const struct seat_row *row, struct batch *b)
{
	bool			 clock = is_over(s->status, s->expires_ms, b->now_ms);
	bool			 over = is_over(row->status, row->expires_ms, b->now_ms);
	enum seat_status	 status = (over ? SEAT_AVAILABLE : row->status);

	if (seat_set(s, status, row->expires_ms, b) && clock && over)
		b->outcome.expired++;
}

/* A seat that memory does not have yet. */
static void
seat_new(struct seat *s, const struct seat_row *row, struct batch *b)
{
	bool	 over = is_over(row->status, row->expires_ms, b->now_ms);

	s->id = row->id;
	s->status = (over ? SEAT_AVAILABLE : row->status);
	s->expires_ms = (s->status == SEAT_HOLD ? row->expires_ms : SEAT_NO_EXPIRY);
	s->version = b->version;
	b->outcome.changed++;
}

/* One pass: end the holds that are over, find the earliest of the others. */
static void
expire_all(struct seat_map *m, struct batch *b)
{
	struct seat	*s;

	m->next_expiry_ms = SEAT_NO_EXPIRY;
	for (s = m->seats; s < m->seats + m->count; s++) {
		if (is_over(s->status, s->expires_ms, b->now_ms) &&
		    seat_set(s, SEAT_AVAILABLE, SEAT_NO_EXPIRY, b))
			b->outcome.expired++;
		if (s->expires_ms < m->next_expiry_ms)
			m->next_expiry_ms = s->expires_ms;
	}
}

static void
apply_changes(struct seat_map *m, const struct row_list *list, struct batch *b)
{
	struct seat	*s;
	size_t		 i;

	for (i = 0; i < list->count; i++) {
		if ((s = seat_find(m, list->rows[i]->id)) == NULL)
			b->outcome.unknown++;
		else
			seat_set_row(s, list->rows[i], b);
	}
}

/*
 * Merge the block as the database tells it with the block in memory, both by
 * ascending id, into fresh, which has room for all rows.  True: seats came or went.
 */
static bool
apply_snapshot(struct seat_map *m, const struct row_list *list, struct seat *fresh, struct batch *b)
{
	size_t	 old = 0, i, kept = 0;

	for (i = 0; i < list->count; i++) {
		while (old < m->count && m->seats[old].id < list->rows[i]->id)
			old++;		/* gone */
		if (old < m->count && m->seats[old].id == list->rows[i]->id) {
			fresh[i] = m->seats[old++];
			seat_set_row(&fresh[i], list->rows[i], b);
			kept++;
		} else
			seat_new(&fresh[i], list->rows[i], b);
	}
	b->outcome.changed += m->count - kept;
	return (kept < m->count || kept < list->count);
}

/* Put the seats of a snapshot in the place of those in memory. */
static void
replace(struct seat_map *m, struct seat *fresh, size_t count, bool layout_moved, uint64_t version)
{
	free(m->seats);
	m->seats = fresh;
	m->count = count;
	if (layout_moved || m->version == 0)
		m->layout_version = version;
}

int
seat_apply(struct seat_map *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows,
    int64_t now_ms, struct seat_outcome *out_r)
{
	struct batch	 b = { now_ms, m->version + 1, { 0, 0, 0 } };
	struct row_list	 list;
	struct seat	*fresh;
	bool		 moved;

	if (row_list_init(&list, rows, nrows) == -1)
		return (-1);
	if (kind == SEAT_SNAPSHOT) {
		if ((fresh = calloc(list.count + 1, sizeof(*fresh))) == NULL) {
			row_list_fini(&list);
			return (-1);
		}
		moved = apply_snapshot(m, &list, fresh, &b);
		replace(m, fresh, list.count, moved, b.version);
	} else
		apply_changes(m, &list, &b);
	if (nrows > 0 || m->next_expiry_ms <= now_ms || kind == SEAT_SNAPSHOT)
		expire_all(m, &b);	/* for the next expiry, too */
	if (b.outcome.changed > 0 || (kind == SEAT_SNAPSHOT && m->version == 0))
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
	expire_all(m, &b);
	if (b.outcome.changed > 0)
		m->version = b.version;
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
seat_status_parse(const char *text, enum seat_status *status_r)
{
	size_t	 i;

	for (i = 0; i < nitems(seat_status_names); i++) {
		if (strcmp(text, seat_status_names[i]) == 0) {
			*status_r = (enum seat_status)i;
			return (0);
		}
	}
	return (-1);
}
