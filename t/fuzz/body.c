/*
 * fuzz body: the JSON of hold, release and confirm.  What must hold: a good body
 * has what it says, each seat once and none below 1; a bad one has one line to say.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "worker/body.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct body	 b;
	const char		*wrong;
	char			*text;
	size_t			 i;

	if ((text = malloc(size + 1)) == NULL)
		abort();
	memcpy(text, data, size);	/* a copy of that size, so that reading on is seen */
	text[size] = '\0';
	wrong = body_parse(text, size, &b);
	must(wrong == NULL || (wrong[0] != '\0' && strchr(wrong, '\n') == NULL));
	if (wrong == NULL) {
		must(!b.has_user || b.user_id >= 1);
		for (i = 0; b.has_seats && i < b.nseats && i < BODY_MAX_SEATS; i++)
			must(b.seats[i] >= 1 && (i == 0 || b.seats[i] != b.seats[i - 1]));
	}
	free(text);
	return (0);
}
