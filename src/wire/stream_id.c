/* SPDX-License-Identifier: ISC */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "wire/stream_id.h"

int
stream_id_parse(const char *text, struct stream_id *id_r)
{
	struct stream_id	 id = { 0, 0 };
	size_t		 i;
	unsigned	 digit;

	if (text == NULL)
		return (-1);
	for (i = 0; i < 8; i++) {
		if (text[i] >= '0' && text[i] <= '9')
			digit = (unsigned)(text[i] - '0');
		else if (text[i] >= 'a' && text[i] <= 'f')
			digit = (unsigned)(text[i] - 'a') + 10;
		else
			return (-1);
		id.epoch = id.epoch << 4 | digit;
	}
	if (text[8] != '-' || text[9] == '0' ||
	    number_parse(text + 9, strlen(text + 9), 10, UINT64_MAX, &id.version) == -1 || id.epoch == 0)
		return (-1);
	*id_r = id;
	return (0);
}

void
stream_id_format(char *out, struct stream_id id)
{
	snprintf(out, STREAM_ID_BYTES, "%08" PRIx32 "-%" PRIu64, id.epoch, id.version);
}
