/* SPDX-License-Identifier: ISC */
/*
 * chunk: framed bytes and their reference counts.
 */
#include <string.h>

#include "unit.h"
#include "wire/chunk.h"
#include "wire/fcgi.h"

#define END(id)	"\1\6\0" id "\0\0\0\0" "\1\3\0" id "\0\10\0\0" "\0\0\0\0\0\0\0\0"

/* bytes of an array literal, its NUL aside */
#define BYTES(s)	s, sizeof(s) - 1

static const struct {
	const char	*says, *content;
	int		 last;
	const char	*bytes;
	size_t		 len;
} frame_cases[] = {
	{ "content is one STDOUT record", "hi\n\n", 0, BYTES("\1\6\0\1\0\4\0\0" "hi\n\n") },
	{ "no content is no record, which would end the stream", "", 0, BYTES("") },
	{ "the last chunk ends the request", "hi\n\n", 1, BYTES("\1\6\0\1\0\4\0\0" "hi\n\n" END("\1")) },
	{ "the end needs no content", "", 1, BYTES(END("\1")) },
};

START_TEST(frames)
{
	const char	*content = frame_cases[_i].content;
	struct chunk	*p;

	p = frame_cases[_i].last ? chunk_new_last(1, content, strlen(content)) :
	    chunk_new(1, content, strlen(content));
	ck_assert_ptr_nonnull(p);
	unit_same_bytes(frame_cases[_i].says, p->bytes, p->len, frame_cases[_i].bytes, frame_cases[_i].len);
	ck_assert_uint_eq(p->refs, 1);
	ck_assert_uint_eq(p->events, 0);
	chunk_unref(&p);
	ck_assert_ptr_null(p);
}
END_TEST

START_TEST(readdressed_is_the_same_for_another_request)
{
	struct chunk	*p = chunk_new_last(1, "hi", 2), *q;

	p->events = 3;
	q = chunk_readdressed(p, 2);
	ck_assert_ptr_nonnull(q);
	unit_same_bytes("the copy", q->bytes, q->len, "\1\6\0\2\0\2\0\0" "hi" END("\2"), 10 + FCGI_END_BYTES);
	unit_same_bytes("the original", p->bytes, p->len, "\1\6\0\1\0\2\0\0" "hi" END("\1"), 10 + FCGI_END_BYTES);
	ck_assert_uint_eq(q->events, 3);
	ck_assert_uint_eq(q->refs, 1);
	chunk_unref(&p);
	chunk_unref(&q);
}
END_TEST

START_TEST(a_chunk_lives_as_long_as_somebody_refers_to_it)
{
	struct chunk	*p = chunk_new(1, "hi", 2), *viewer = chunk_ref(p);

	ck_assert_ptr_eq(viewer, p);
	chunk_unref(&p);
	ck_assert_ptr_null(p);
	ck_assert_uint_eq(viewer->refs, 1);
	ck_assert_uint_eq(viewer->len, 10);
	chunk_unref(&viewer);
	chunk_unref(&viewer);		/* NULL is fine */
}
END_TEST

START_TEST(large_content_is_cut_into_records)
{
	static char	 content[3 * FCGI_MAX_CONTENT + 1];
	struct chunk	*p = chunk_new_last(9, content, sizeof(content));

	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(p->len, sizeof(content) + 4 * FCGI_HEADER_LEN + FCGI_END_BYTES);
	chunk_unref(&p);
	ck_assert_ptr_null(chunk_new(1, content, SIZE_MAX));
}
END_TEST

START_TEST(a_part_is_found_by_any_offset_in_it)
{
	struct chunk	*p = chunk_new(1, NULL, 0), *part;
	size_t		 start, at;
	uint64_t	 next;

	p = chunk_grow(p, 1, "first\n\n", 7, 20);
	p = chunk_grow(p, 1, "second\n\n", 8, 0);
	ck_assert_uint_eq(p->nparts, 2);
	for (at = 0; at < p->len; at++) {
		ck_assert_ptr_nonnull(part = chunk_part_at(p, at, &start, &next));
		ck_assert_uint_eq(next, at < 15 ? 20 : 0);
		ck_assert_uint_eq(start, at < 15 ? 0 : 15);
		unit_same_bytes("a part", part->bytes, part->len, p->bytes + start, at < 15 ? (size_t)15 : (size_t)16);
		chunk_unref(&part);
	}
	chunk_unref(&p);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("chunk");
	TCase	*tc = unit_case(s, "chunk");

	unit_rows(tc, frames, frame_cases);
	tcase_add_test(tc, readdressed_is_the_same_for_another_request);
	tcase_add_test(tc, a_chunk_lives_as_long_as_somebody_refers_to_it);
	tcase_add_test(tc, large_content_is_cut_into_records);
	tcase_add_test(tc, a_part_is_found_by_any_offset_in_it);
	return (unit_main(s));
}
