/* SPDX-License-Identifier: ISC */
/*
 * seat: rows as sentences, then random batches against a model that keeps
 * nothing sorted and looks everything up by walking.
 */
#include <stdio.h>
#include <string.h>

#include "loop/seat.h"
#include "unit.h"

#define NEVER	SEAT_NO_EXPIRY
#define A	SEAT_AVAILABLE
#define H	SEAT_HOLD
#define O	SEAT_OCCUPIED

#define MAX_ROWS	4

/*
 * Each case starts with the block 101 A, 102 H until 1000, 103 H for ever,
 * 104 O, which is version 1, and applies one batch.
 */
static const struct {
	const char		*says;
	enum seat_batch		 kind;
	int64_t			 now_ms;
	size_t			 nrows;
	struct seat_row		 rows[MAX_ROWS];
	const char		*seats;		/* id status version … after it */
	uint64_t		 version, layout;
	int64_t			 next_expiry;
	struct seat_outcome	 outcome;
} apply_cases[] = {
	{ "an empty batch changes nothing", SEAT_CHANGES, 500, 0, { { 1, 0, 0, A } },
	    "101A1 102H1 103H1 104O1", 1, 1, 1000, { 0, 0, 0 } },
	{ "a row that says what is known changes nothing", SEAT_CHANGES, 500, 2, { { 1, 101, NEVER, A }, { 1, 102, 1000, H } },
	    "101A1 102H1 103H1 104O1", 1, 1, 1000, { 0, 0, 0 } },
	{ "all changes of a batch share a version", SEAT_CHANGES, 500, 2, { { 1, 101, NEVER, O }, { 1, 104, NEVER, A } },
	    "101O2 102H1 103H1 104A2", 2, 1, 1000, { 2, 0, 0 } },
	{ "a hold has an expiry", SEAT_CHANGES, 500, 1, { { 1, 101, 900, H } },
	    "101H2 102H1 103H1 104O1", 2, 1, 900, { 1, 0, 0 } },
	{ "only a hold has one", SEAT_CHANGES, 500, 1, { { 1, 102, 800, O } },
	    "101A1 102O2 103H1 104O1", 2, 1, NEVER, { 1, 0, 0 } },
	{ "a renewed hold changes nothing but the expiry", SEAT_CHANGES, 500, 1, { { 1, 102, 5000, H } },
	    "101A1 102H1 103H1 104O1", 1, 1, 5000, { 0, 0, 0 } },
	{ "a hold renewed when it was over has not been interrupted", SEAT_CHANGES, 2000, 1, { { 1, 102, 5000, H } },
	    "101A1 102H1 103H1 104O1", 1, 1, 5000, { 0, 0, 0 } },
	{ "a hold that is over in the row is AVAILABLE", SEAT_CHANGES, 500, 1, { { 1, 101, 500, H } },
	    "101A1 102H1 103H1 104O1", 1, 1, 1000, { 0, 0, 0 } },
	{ "a row with a hold that is over frees an occupied seat", SEAT_CHANGES, 500, 1, { { 1, 104, 499, H } },
	    "101A1 102H1 103H1 104A2", 2, 1, 1000, { 1, 0, 0 } },
	{ "a hold cut short by the row is the row's change", SEAT_CHANGES, 500, 1, { { 1, 102, 400, H } },
	    "101A1 102A2 103H1 104O1", 2, 1, NEVER, { 1, 0, 0 } },
	{ "holds that are over expire in the batch", SEAT_CHANGES, 1000, 1, { { 1, 101, NEVER, O } },
	    "101O2 102A2 103H1 104O1", 2, 1, NEVER, { 2, 1, 0 } },
	{ "and without any row", SEAT_CHANGES, 1000, 0, { { 1, 0, 0, A } },
	    "101A1 102A2 103H1 104O1", 2, 1, NEVER, { 1, 1, 0 } },
	{ "a row that still tells an expired hold does not take credit", SEAT_CHANGES, 1000, 1, { { 1, 102, 1000, H } },
	    "101A1 102A2 103H1 104O1", 2, 1, NEVER, { 1, 1, 0 } },
	{ "a row that frees an expired hold does", SEAT_CHANGES, 1000, 1, { { 1, 102, NEVER, A } },
	    "101A1 102A2 103H1 104O1", 2, 1, NEVER, { 1, 0, 0 } },
	{ "of two rows for a seat the last counts", SEAT_CHANGES, 500, 3,
	    { { 1, 101, NEVER, O }, { 1, 104, NEVER, A }, { 1, 101, NEVER, H } },
	    "101H2 102H1 103H1 104A2", 2, 1, 1000, { 2, 0, 0 } },
	{ "there and back in one batch is no change", SEAT_CHANGES, 500, 2, { { 1, 101, NEVER, O }, { 1, 101, NEVER, A } },
	    "101A1 102H1 103H1 104O1", 1, 1, 1000, { 0, 0, 0 } },
	{ "an unknown seat waits for the next snapshot", SEAT_CHANGES, 500, 1, { { 1, 100, NEVER, O } },
	    "101A1 102H1 103H1 104O1", 1, 1, 1000, { 0, 0, 1 } },
	{ "a snapshot that says what is known changes nothing", SEAT_SNAPSHOT, 500, 4,
	    { { 1, 101, NEVER, A }, { 1, 102, 1000, H }, { 1, 103, NEVER, H }, { 1, 104, NEVER, O } },
	    "101A1 102H1 103H1 104O1", 1, 1, 1000, { 0, 0, 0 } },
	{ "a snapshot may come in any order", SEAT_SNAPSHOT, 500, 4,
	    { { 1, 104, NEVER, O }, { 1, 101, NEVER, O }, { 1, 103, NEVER, H }, { 1, 102, 1000, H } },
	    "101O2 102H1 103H1 104O1", 2, 1, 1000, { 1, 0, 0 } },
	{ "a seat that is missing in a snapshot is removed", SEAT_SNAPSHOT, 500, 3,
	    { { 1, 101, NEVER, A }, { 1, 103, NEVER, H }, { 1, 104, NEVER, O } },
	    "101A1 103H1 104O1", 2, 2, NEVER, { 1, 0, 0 } },
	{ "a seat that is new in a snapshot is added", SEAT_SNAPSHOT, 500, 4,
	    { { 1, 101, NEVER, A }, { 1, 102, 1000, H }, { 1, 103, NEVER, H }, { 1, 105, 700, H } },
	    "101A1 102H1 103H1 105H2", 2, 2, 700, { 2, 0, 0 } },
	{ "an empty snapshot empties the block", SEAT_SNAPSHOT, 500, 0, { { 1, 0, 0, A } },
	    "", 2, 2, NEVER, { 4, 0, 0 } },
	{ "a snapshot just after an expiry did not find a late change", SEAT_SNAPSHOT, 1000, 4,
	    { { 1, 101, NEVER, A }, { 1, 102, 1000, H }, { 1, 103, NEVER, H }, { 1, 104, NEVER, O } },
	    "101A1 102A2 103H1 104O1", 2, 1, NEVER, { 1, 1, 0 } },
};

static const struct seat_row block[] = {
	{ 1, 101, NEVER, A }, { 1, 102, 1000, H }, { 1, 103, NEVER, H }, { 1, 104, NEVER, O }
};

/* Version that last added or removed seats of a map with one block, or none. */
static uint64_t
layout_version(const struct seat_map *m)
{
	uint64_t inside = seat_block_count(m) > 0 ? seat_block_at(m, 0)->layout_version : 0;

	return (inside > seat_blocks_version(m) ? inside : seat_blocks_version(m));
}

static struct seat_map *
new_block(void)
{
	struct seat_map		*m = seat_map_new();
	struct seat_outcome	 out;

	ck_assert_ptr_nonnull(m);
	ck_assert_uint_eq(seat_version(m), 0);
	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, block, nitems(block), 0, &out), 0);
	ck_assert_uint_eq(out.changed, 4);
	ck_assert_uint_eq(seat_version(m), 1);
	ck_assert_uint_eq(layout_version(m), 1);
	return (m);
}

/* "101A1 102H1": id, status, version. */
static void
describe(const struct seat_map *m, char *out, size_t size)
{
	size_t	 i, len = 0;

	out[0] = '\0';
	for (i = 0; i < seat_count(m); i++)
		len += (size_t)snprintf(out + len, size - len, "%s%lld%c%llu", i > 0 ? " " : "",
		    (long long)seat_at(m, i)->id, seat_status_name(seat_at(m, i)->status)[0],
		    (unsigned long long)seat_at(m, i)->version);
}

START_TEST(apply)
{
	const char		*says = apply_cases[_i].says;
	struct seat_map		*m = new_block();
	struct seat_outcome	 out, want = apply_cases[_i].outcome;
	char			 text[256];

	ck_assert_int_eq(seat_apply(m, apply_cases[_i].kind, apply_cases[_i].rows, apply_cases[_i].nrows,
	    apply_cases[_i].now_ms, &out), 0);
	describe(m, text, sizeof(text));
	ck_assert_msg(strcmp(text, apply_cases[_i].seats) == 0, "%s: %s", says, text);
	ck_assert_msg(seat_version(m) == apply_cases[_i].version, "%s: version %d", says, (int)seat_version(m));
	ck_assert_msg(layout_version(m) == apply_cases[_i].layout, "%s: layout version %d", says,
	    (int)layout_version(m));
	ck_assert_msg(seat_next_expiry(m) == apply_cases[_i].next_expiry, "%s: next expiry %lld", says,
	    (long long)seat_next_expiry(m));
	ck_assert_msg(out.changed == want.changed && out.expired == want.expired && out.unknown == want.unknown,
	    "%s: %zu changed, %zu expired, %zu unknown", says, out.changed, out.expired, out.unknown);
	seat_map_free(&m);
	ck_assert_ptr_null(m);
	seat_map_free(&m);
}
END_TEST

START_TEST(first_snapshot_is_version_1_even_of_an_empty_block)
{
	struct seat_map		*m = seat_map_new();
	struct seat_outcome	 out;

	ck_assert_int_eq(seat_apply(m, SEAT_CHANGES, block, nitems(block), 0, &out), 0);
	ck_assert_uint_eq(out.unknown, 4);
	ck_assert_uint_eq(seat_version(m), 0);
	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, NULL, 0, 0, &out), 0);
	ck_assert_uint_eq(out.changed, 0);
	ck_assert_uint_eq(seat_version(m), 1);
	ck_assert_uint_eq(layout_version(m), 1);
	ck_assert_uint_eq(seat_count(m), 0);
	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, NULL, 0, 0, &out), 0);
	ck_assert_uint_eq(seat_version(m), 1);
	seat_map_free(&m);
}
END_TEST

static const struct {
	const char	*says;
	int64_t		 now_ms;
	size_t		 expired;
	const char	*seats;
	int64_t		 next_expiry;
} expire_cases[] = {
	{ "a hold lasts until its moment", 999, 0, "101A1 102H1 103H1 104O1", 1000 },
	{ "at its moment it is over", 1000, 1, "101A1 102A2 103H1 104O1", NEVER },
	{ "and later too", 123456, 1, "101A1 102A2 103H1 104O1", NEVER },
	{ "a hold without expiry never ends by itself", INT64_MAX, 1, "101A1 102A2 103H1 104O1", NEVER },
};

START_TEST(expire)
{
	const char	*says = expire_cases[_i].says;
	struct seat_map	*m = new_block();
	char		 text[256];
	size_t		 n;

	n = seat_expire(m, expire_cases[_i].now_ms);
	ck_assert_msg(n == expire_cases[_i].expired, "%s: %zu expired", says, n);
	describe(m, text, sizeof(text));
	ck_assert_msg(strcmp(text, expire_cases[_i].seats) == 0, "%s: %s", says, text);
	ck_assert_int_eq(seat_next_expiry(m), expire_cases[_i].next_expiry);
	ck_assert_uint_eq(seat_version(m), 1 + n);
	ck_assert_uint_eq(seat_expire(m, expire_cases[_i].now_ms), 0);
	ck_assert_uint_eq(seat_version(m), 1 + n);
	seat_map_free(&m);
}
END_TEST

static const struct {
	const char		*text;
	int			 rc;
	enum seat_status	 status;
} status_cases[] = {
	{ "AVAILABLE", 0, A }, { "HOLD", 0, H }, { "OCCUPIED", 0, O },
	{ "available", -1, A }, { "HOLD ", -1, A }, { "", -1, A }, { "SOLD", -1, A },
};

START_TEST(status_names)
{
	enum seat_status	 status = A;

	ck_assert_int_eq(seat_status_parse(status_cases[_i].text, strlen(status_cases[_i].text), &status), status_cases[_i].rc);
	ck_assert_int_eq(status, status_cases[_i].status);
	if (status_cases[_i].rc == 0)
		ck_assert_str_eq(seat_status_name(status), status_cases[_i].text);
}
END_TEST

/* A match: counts follow the seats, and a version is only where something changed. */
START_TEST(counts)
{
	static const struct seat_row	 match[] = {
		{ 102, 7, NEVER, H }, { 101, 9, 1000, H }, { 101, 2, NEVER, A }, { 102, 3, NEVER, O }
	};
	static const struct seat_row	 swap[] = { { 101, 9, NEVER, A }, { 101, 2, NEVER, H } };
	static const struct seat_row	 wrong_block = { 102, 2, NEVER, O };
	struct seat_map			*m = seat_map_new();
	const struct seat_block		*b101, *b102;
	struct seat_outcome		 out;
	char				 text[256];

	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, match, nitems(match), 0, &out), 0);
	describe(m, text, sizeof(text));
	ck_assert_str_eq(text, "2A1 9H1 3O1 7H1");
	ck_assert_uint_eq(seat_block_count(m), 2);
	b101 = seat_block_find(m, 101);
	b102 = seat_block_find(m, 102);
	ck_assert_ptr_null(seat_block_find(m, 103));
	ck_assert_ptr_eq(b101, seat_block_at(m, 0));
	ck_assert(b101->counts[A] == 1 && b101->counts[H] == 1 && b101->counts[O] == 0);
	ck_assert(b102->counts[A] == 0 && b102->counts[H] == 1 && b102->counts[O] == 1);
	ck_assert(b101->first == 0 && b101->end == 2 && b102->first == 2 && b102->end == 4);
	ck_assert_uint_eq(seat_lower_bound(m, b102, 4), 3);
	ck_assert_uint_eq(seat_lower_bound(m, b102, 8), 4);

	ck_assert_int_eq(seat_apply(m, SEAT_CHANGES, swap, nitems(swap), 0, &out), 0);
	ck_assert_uint_eq(seat_version(m), 2);
	ck_assert_msg(b101->seats_version == 2 && b101->counts_version == 1, "two seats changed places: the counts are as before");
	ck_assert_uint_eq(b102->seats_version, 1);
	ck_assert_int_eq(seat_apply(m, SEAT_CHANGES, &wrong_block, 1, 0, &out), 0);
	ck_assert_msg(out.unknown == 1 && seat_version(m) == 2, "a seat of another block is not in this one");

	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, match, 3, 0, &out), 0);
	b101 = seat_block_find(m, 101);
	b102 = seat_block_find(m, 102);
	ck_assert_msg(b102->layout_version == 3 && b101->layout_version == 1 && seat_blocks_version(m) == 1,
	    "a seat that went moves its block alone");
	ck_assert(b102->counts[O] == 0 && b102->counts_version == 3);
	ck_assert_uint_eq(seat_expire(m, 1000), 1);
	ck_assert(b101->counts[A] == 2 && b101->counts[H] == 0 && b101->counts_version == 4);
	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, match + 1, 2, 2000, &out), 0);
	ck_assert_msg(seat_blocks_version(m) == 5 && seat_block_count(m) == 1 && out.changed == 1, "a block went");
	seat_map_free(&m);
}
END_TEST

/* The model: seats by id as index; what the header says, as it says it. */
#define MODEL_IDS	40
#define MODEL_BLOCKS	4
#define BLOCK_OF(id)	((id) % MODEL_BLOCKS + 1)

struct model {
	struct { int in; enum seat_status status; int64_t expires; uint64_t version; } seats[MODEL_IDS];
	struct { uint32_t counts[SEAT_STATUSES]; uint64_t counts_version, seats_version, layout; } blocks[MODEL_BLOCKS + 1];
	uint64_t	 version, blocks_version;
};

static int
model_over(enum seat_status status, int64_t expires, int64_t now)
{
	return (status == H && expires != NEVER && expires <= now);
}

static uint32_t
model_size(const struct model *m, size_t k)
{
	return (m->blocks[k].counts[A] + m->blocks[k].counts[H] + m->blocks[k].counts[O]);
}

/* Counts by walking, and which blocks' versions move. */
static void
model_count(struct model *m, const struct model *was, int first)
{
	size_t	 i, k;

	for (k = 1; k <= MODEL_BLOCKS; k++) {
		memset(m->blocks[k].counts, 0, sizeof(m->blocks[k].counts));
		for (i = 0; i < MODEL_IDS; i++)
			if (BLOCK_OF(i) == k && m->seats[i].in)
				m->blocks[k].counts[m->seats[i].status]++;
		if (memcmp(m->blocks[k].counts, was->blocks[k].counts, sizeof(m->blocks[k].counts)) != 0)
			m->blocks[k].counts_version = was->version + 1;
		if ((model_size(m, k) == 0) != (model_size(was, k) == 0))
			m->blocks_version = was->version + 1;
	}
	if (first)
		m->blocks_version = was->version + 1;
}

/* The rows are the whole truth about the seats they name; the rest is as it was. */
static struct seat_outcome
model_apply(struct model *m, enum seat_batch kind, const struct seat_row *rows, size_t nrows, int64_t now)
{
	struct model		 was = *m;
	struct seat_outcome	 out = { 0, 0, 0 };
	const struct seat_row	*row;
	size_t			 i, r;
	int			 first = (kind == SEAT_SNAPSHOT && was.version == 0);

	for (i = 0; i < MODEL_IDS; i++) {
		for (r = 0, row = NULL; r < nrows; r++)
			if ((size_t)rows[r].id == i)
				row = &rows[r];
		if (kind == SEAT_CHANGES && row != NULL && !was.seats[i].in) {
			out.unknown++;
			continue;
		}
		if (kind == SEAT_SNAPSHOT)
			m->seats[i].in = (row != NULL);
		if (row != NULL) {
			m->seats[i].status = row->status;
			m->seats[i].expires = row->status == H ? row->expires_ms : NEVER;
		}
		if (!m->seats[i].in && !was.seats[i].in)
			continue;
		if (m->seats[i].in && model_over(m->seats[i].status, m->seats[i].expires, now)) {
			m->seats[i].status = A;
			m->seats[i].expires = NEVER;
		}
		if (m->seats[i].in != was.seats[i].in)
			m->blocks[BLOCK_OF(i)].layout = was.version + 1;
		else if (m->seats[i].status == was.seats[i].status)
			continue;
		out.changed++;
		m->seats[i].version = was.version + 1;
		if (was.seats[i].in && m->seats[i].in && m->seats[i].status == A &&
		    model_over(was.seats[i].status, was.seats[i].expires, now) &&
		    (row == NULL || row->status == H))
			out.expired++;
	}
	if (out.changed > 0 || first)
		m->version = was.version + 1;
	model_count(m, &was, first);
	return (out);
}

static void
compare_blocks(const struct model *model, const struct seat_map *m, int seed, int round)
{
	size_t	 k, at = 0;

	for (k = 1; k <= MODEL_BLOCKS; k++) {
		const struct seat_block *b = seat_block_find(m, (int64_t)k);

		if (model_size(model, k) == 0) {
			ck_assert_ptr_null(b);
			continue;
		}
		ck_assert_ptr_eq(b, seat_block_at(m, at++));
		ck_assert_msg(memcmp(b->counts, model->blocks[k].counts, sizeof(b->counts)) == 0 &&
		    b->counts_version == model->blocks[k].counts_version && b->layout_version == model->blocks[k].layout,
		    "seed %d round %d: block %zu differs", seed, round, k);
	}
	ck_assert_uint_eq(seat_block_count(m), at);
	ck_assert_uint_eq(seat_blocks_version(m), model->blocks_version);
}

static void
compare(const struct model *model, const struct seat_map *m, int seed, int round)
{
	int64_t	 next = NEVER;
	size_t	 i, k, at = 0;

	for (k = 1; k <= MODEL_BLOCKS; k++)
		for (i = 0; i < MODEL_IDS; i++) {
			if (BLOCK_OF(i) != k || !model->seats[i].in)
				continue;
			ck_assert_msg(at < seat_count(m) && (size_t)seat_at(m, at)->id == i &&
			    (size_t)seat_block_at(m, seat_at(m, at)->block)->id == k &&
			    seat_at(m, at)->status == model->seats[i].status &&
			    seat_at(m, at)->expires_ms == model->seats[i].expires &&
			    seat_at(m, at)->version == model->seats[i].version,
			    "seed %d round %d: seat %zu differs", seed, round, i);
			ck_assert_uint_ge(seat_block_at(m, seat_at(m, at)->block)->seats_version, seat_at(m, at)->version);
			at++;
			if (model->seats[i].status == H && model->seats[i].expires < next)
				next = model->seats[i].expires;
		}
	ck_assert_uint_eq(seat_count(m), at);
	ck_assert_uint_eq(seat_version(m), model->version);
	ck_assert_int_eq(seat_next_expiry(m), next);
	compare_blocks(model, m, seed, round);
}

/* Rows about some of the seats; a snapshot mostly tells what is known. */
static size_t
random_rows(struct seat_row *rows, enum seat_batch kind, const struct model *m, int64_t now, uint64_t *seed)
{
	size_t	 n = 0, i, max = unit_random(seed, 10);

	for (i = 0; kind == SEAT_SNAPSHOT && i < MODEL_IDS; i++) {
		if (m->seats[i].in ? unit_random(seed, 100) == 0 : unit_random(seed, 60) != 0 && m->version > 0)
			continue;
		rows[n].block_id = BLOCK_OF((int64_t)i);
		rows[n].id = (int64_t)i;
		rows[n].status = m->seats[i].status;
		rows[n++].expires_ms = m->seats[i].expires;
	}
	for (i = 0; i < max; i++) {
		rows[n].id = (int64_t)unit_random(seed, MODEL_IDS);
		rows[n].block_id = BLOCK_OF(rows[n].id);
		rows[n].status = (enum seat_status)unit_random(seed, 3);
		rows[n++].expires_ms = unit_random(seed, 4) == 0 ? NEVER : now - 20 + (int64_t)unit_random(seed, 60);
	}
	return (n);
}

START_TEST(random_batches)
{
	struct seat_map		*m = seat_map_new();
	struct model		 model = { .version = 0 };
	struct seat_row		 rows[2 * MODEL_IDS];
	struct seat_outcome	 got, want;
	enum seat_batch		 kind;
	uint64_t		 seed = unit_seed(_i);
	int64_t			 now = 1000;
	size_t			 n;
	int			 round;

	for (round = 0; round < 300; round++) {
		now += (int64_t)unit_random(&seed, 12) - 1;	/* clocks step back, too */
		if (unit_random(&seed, 4) == 0) {
			want = model_apply(&model, SEAT_CHANGES, NULL, 0, now);
			ck_assert_uint_eq(seat_expire(m, now), want.expired);
			compare(&model, m, _i, round);
			continue;
		}
		kind = unit_random(&seed, 5) == 0 ? SEAT_SNAPSHOT : SEAT_CHANGES;
		n = random_rows(rows, kind, &model, now, &seed);
		want = model_apply(&model, kind, rows, n, now);
		ck_assert_int_eq(seat_apply(m, kind, rows, n, now, &got), 0);
		ck_assert_msg(got.changed == want.changed && got.expired == want.expired &&
		    got.unknown == want.unknown, "seed %d round %d: %zu/%zu/%zu, not %zu/%zu/%zu", _i, round,
		    got.changed, got.expired, got.unknown, want.changed, want.expired, want.unknown);
		compare(&model, m, _i, round);
	}
	seat_map_free(&m);
}
END_TEST

/* Not a benchmark: quadratic work here would take minutes. */
START_TEST(many_seats_are_cheap)
{
	const size_t		 n = 100000;
	struct seat_row		*rows = calloc(n, sizeof(*rows));
	struct seat_map		*m = seat_map_new();
	struct seat_outcome	 out;
	size_t			 i;

	ck_assert_ptr_nonnull(rows);
	for (i = 0; i < n; i++)
		rows[i] = (struct seat_row){ 1, (int64_t)(n - i), 1000, H };
	ck_assert_int_eq(seat_apply(m, SEAT_SNAPSHOT, rows, n, 0, &out), 0);
	ck_assert_uint_eq(out.changed, n);
	ck_assert_int_eq(seat_at(m, 0)->id, 1);
	ck_assert_uint_eq(seat_expire(m, 1000), n);
	ck_assert_int_eq(seat_apply(m, SEAT_CHANGES, rows, n, 0, &out), 0);
	ck_assert_uint_eq(out.changed, n);
	free(rows);
	seat_map_free(&m);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("seat");
	TCase	*tc;

	tc = unit_case(s, "apply");
	unit_rows(tc, apply, apply_cases);
	tcase_add_test(tc, first_snapshot_is_version_1_even_of_an_empty_block);
	tcase_add_test(tc, counts);
	tcase_add_loop_test(tc, random_batches, 0, 50);
	tcase_add_test(tc, many_seats_are_cheap);
	tc = unit_case(s, "expire");
	unit_rows(tc, expire, expire_cases);
	tc = unit_case(s, "status");
	unit_rows(tc, status_names, status_cases);
	return (unit_main(s));
}
