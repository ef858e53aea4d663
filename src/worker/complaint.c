/* SPDX-License-Identifier: ISC */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/must.h"
#include "shared/board.h"
#include "shared/db.h"
#include "worker/complaint.h"

/* Causes of this process; with more than these at once the last ones share a place. */
static struct {
	char			sqlstate[6];
	struct log_seldom	seldom;
} causes[16];

static struct log_seldom *
cause_of(const char *sqlstate)
{
	size_t i;

	for (i = 0; i < nitems(causes) - 1 && causes[i].sqlstate[0] != '\0'; i++)
		if (strcmp(causes[i].sqlstate, sqlstate) == 0)
			break;
	snprintf(causes[i].sqlstate, sizeof(causes[i].sqlstate), "%s", sqlstate);
	return (&causes[i].seldom);
}

/* Has another process just said the same? */
static bool
is_said(const struct board *board, const char *text)
{
	struct board_said	 said;
	struct timespec		 now;
	const char		*message;

	if (!board_last_said(board, &said) || (message = strstr(said.text, "request: ")) == NULL)
		return (false);
	clock_gettime(CLOCK_REALTIME, &now);
	return (strncmp(message, text, strlen(message)) == 0 &&
	    (int64_t)now.tv_sec * 1000 - said.unix_ms < LOG_SELDOM_MS);
}

void
complain(const struct board *board, struct board_slot *slot, const struct db_answer *a)
{
	char text[512];

	board_add(slot, BOARD_database_errors, 1);
	snprintf(text, sizeof(text), "request: %s (SQLSTATE %s); `seatcast --check` says more", a->error, a->sqlstate);
	if (is_said(board, text))
		cause_of(a->sqlstate)->held++;
	else
		log_warnx_seldom(cause_of(a->sqlstate), "%s", text);
}
