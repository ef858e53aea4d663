/* SPDX-License-Identifier: ISC */
/* stream_id: what is an id of ours, and what only looks like one. */
#include <string.h>

#include "unit.h"
#include "wire/stream_id.h"

static const struct {
	const char	*says, *text;
	int		 rc;
	struct stream_id	 id;
} id_cases[] = {
	{ "an id is epoch and version", "5f3a9c1e-41", 0, { 0x5f3a9c1e, 41 } },
	{ "the least one", "00000001-1", 0, { 1, 1 } },
	{ "the greatest one", "ffffffff-18446744073709551615", 0, { 0xffffffff, UINT64_MAX } },
	{ "none is no id", NULL, -1, { 0, 0 } },
	{ "nothing is no id", "", -1, { 0, 0 } },
	{ "a version may not overflow", "5f3a9c1e-18446744073709551616", -1, { 0, 0 } },
	{ "not even by a digit", "5f3a9c1e-184467440737095516150", -1, { 0, 0 } },
	{ "a version has no leading zero", "5f3a9c1e-041", -1, { 0, 0 } },
	{ "a version is not 0", "5f3a9c1e-0", -1, { 0, 0 } },
	{ "an epoch is not 0", "00000000-41", -1, { 0, 0 } },
	{ "hex digits are lower-case", "5F3A9C1E-41", -1, { 0, 0 } },
	{ "an epoch has 8 of them", "f3a9c1e-41", -1, { 0, 0 } },
	{ "and not 9", "05f3a9c1e-41", -1, { 0, 0 } },
	{ "a version is needed", "5f3a9c1e-", -1, { 0, 0 } },
	{ "so is the dash", "5f3a9c1e", -1, { 0, 0 } },
	{ "a version has no sign", "5f3a9c1e-+41", -1, { 0, 0 } },
	{ "no space before", " 5f3a9c1e-41", -1, { 0, 0 } },
	{ "no space behind", "5f3a9c1e-41 ", -1, { 0, 0 } },
	{ "an id of another service", "1732276800000", -1, { 0, 0 } },
};

START_TEST(ids)
{
	struct stream_id	 id = { 0, 0 };
	char		 text[STREAM_ID_BYTES];

	ck_assert_msg(stream_id_parse(id_cases[_i].text, &id) == id_cases[_i].rc, "%s", id_cases[_i].says);
	ck_assert_msg(id.epoch == id_cases[_i].id.epoch && id.version == id_cases[_i].id.version, "%s",
	    id_cases[_i].says);
	if (id_cases[_i].rc == 0) {
		stream_id_format(text, id);
		ck_assert_str_eq(text, id_cases[_i].text);
	}
}
END_TEST

int
main(void)
{
	Suite	*s = suite_create("stream_id");
	TCase	*tc;

	tc = unit_case(s, "ids");
	unit_rows(tc, ids, id_cases);
	return (unit_main(s));
}
