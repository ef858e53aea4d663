/* SPDX-License-Identifier: ISC */
/*
 * buf: appends of all sizes, and what a failed allocation leaves behind.
 */
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "unit.h"

START_TEST(appends_are_joined_and_terminated)
{
	struct buf	 b = BUF_INIT;

	buf_puts(&b, "id: ");
	buf_printf(&b, "%08x-%d", 0x5f3a9c1eu, 41);
	buf_add(&b, "\n\0", 2);
	ck_assert(buf_ok(&b));
	ck_assert_uint_eq(b.len, 17);
	ck_assert_mem_eq(b.data, "id: 5f3a9c1e-41\n\0", 18);
	buf_fini(&b);
	ck_assert_ptr_null(b.data);
	ck_assert_uint_eq(b.len, 0);
}
END_TEST

START_TEST(nothing_is_an_empty_string_too)
{
	struct buf	 b = BUF_INIT;

	buf_add(&b, NULL, 0);
	ck_assert(buf_ok(&b));
	ck_assert_uint_eq(b.len, 0);
	ck_assert_str_eq(b.data, "");
	buf_fini(&b);
}
END_TEST

/* Around every size at which memory grows, a byte too few shows under sanitizers. */
START_TEST(printf_fits_whatever_room_is_left)
{
	struct buf	 b = BUF_INIT;
	int		 width;

	for (width = 0; width < 1200; width++) {
		buf_fini(&b);
		buf_printf(&b, "%*s", _i, "");
		buf_printf(&b, "%*d", width, 7);
		ck_assert(buf_ok(&b));
		ck_assert_uint_eq(b.len, (size_t)_i + (size_t)(width > 0 ? width : 1));
		ck_assert_int_eq(b.data[b.len - 1], '7');
		ck_assert_int_eq(b.data[b.len], '\0');
	}
	buf_fini(&b);
}
END_TEST

static const struct {
	int64_t		 n;
	const char	*text;
} numbers[] = {
	{ 0, "0" }, { 7, "7" }, { 10, "10" }, { -1, "-1" }, { INT64_MAX, "9223372036854775807" }, { INT64_MIN, "-9223372036854775808" },
};

START_TEST(numbers_are_decimal)
{
	struct buf	 b = BUF_INIT;

	buf_puts(&b, "=");
	buf_putn(&b, numbers[_i].n);
	ck_assert_str_eq(b.data + 1, numbers[_i].text);
	buf_fini(&b);
}
END_TEST

START_TEST(reset_keeps_the_memory)
{
	struct buf	 b = BUF_INIT;
	const char	*data;

	buf_printf(&b, "%*s", 1000, "");
	data = b.data;
	buf_reset(&b);
	ck_assert_uint_eq(b.len, 0);
	ck_assert_str_eq(b.data, "");
	buf_printf(&b, "%*s", 900, "");
	ck_assert_ptr_eq(b.data, data);
	buf_fini(&b);
	buf_reset(&b);			/* of an empty one */
	ck_assert(buf_ok(&b));
}
END_TEST

START_TEST(a_failure_is_remembered_until_reset)
{
	struct buf	 b = BUF_INIT;

	buf_puts(&b, "before");
	buf_add(&b, "", SIZE_MAX - 10);	/* more than there can be: nothing is read */
	ck_assert(!buf_ok(&b));
	buf_puts(&b, "after");
	buf_printf(&b, "%d", 1);
	ck_assert(!buf_ok(&b));
	ck_assert_str_eq(b.data, "before");
	buf_reset(&b);
	buf_puts(&b, "again");
	ck_assert(buf_ok(&b));
	ck_assert_str_eq(b.data, "again");
	buf_fini(&b);
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("buf");
	TCase	*tc = unit_case(s, "buf");

	tcase_add_test(tc, appends_are_joined_and_terminated);
	tcase_add_test(tc, nothing_is_an_empty_string_too);
	tcase_add_loop_test(tc, printf_fits_whatever_room_is_left, 0, 20);
	unit_rows(tc, numbers_are_decimal, numbers);
	tcase_add_test(tc, reset_keeps_the_memory);
	tcase_add_test(tc, a_failure_is_remembered_until_reset);
	return (unit_main(s));
}
