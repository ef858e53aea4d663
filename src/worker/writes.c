/* SPDX-License-Identifier: ISC */
#include <stdlib.h>

#include "base/mono.h"
#include "base/must.h"
#include "shared/db.h"
#include "worker/writes.h"

#define SLOW_MAX	1	/* it may take as long as a lock is waited for: SQL port, 55P03 */
#define HOT_MAX		256	/* seats; then the one that cools first gives its place */
#define HOT_MS		5000	/* since it was last found locked */

struct hot {
	int64_t	match_id, seat_id;
	int64_t	until_ms;		/* monotonic; 0: free */
};

struct writes {
	struct ev_loop		*ev;
	const char		*conninfo;
	struct board_slot	*slot;
	struct db		*fast, *slow;	/* slow: NULL until it is needed */
	bool			 met_lock;	/* once; else nothing is hot */
	struct hot		 hot[HOT_MAX];
};

static struct hot *
hot_find(struct writes *w, int64_t match_id, int64_t seat_id)
{
	int64_t	now = mono_ms();
	size_t	i;

	for (i = 0; i < nitems(w->hot); i++)
		if (w->hot[i].seat_id == seat_id && w->hot[i].match_id == match_id && w->hot[i].until_ms > now)
			return (&w->hot[i]);
	return (NULL);
}

static struct hot *
hot_place(struct writes *w)
{
	struct hot	*coolest = w->hot;
	size_t		 i;

	for (i = 1; i < nitems(w->hot); i++)
		if (w->hot[i].until_ms < coolest->until_ms)
			coolest = &w->hot[i];
	return (coolest);
}

struct db *
writes_lane(struct writes *w, int64_t match_id, const int64_t *seat_ids, size_t n, bool *hot_r)
{
	size_t	i;

	*hot_r = false;
	for (i = 0; i < n && w->met_lock && !*hot_r; i++)
		*hot_r = hot_find(w, match_id, seat_ids[i]) != NULL;
	if (!*hot_r)
		return (db_waiting(w->fast) < WRITES_MAX ? w->fast : NULL);
	if (w->slow == NULL)
		w->slow = db_new(w->ev, w->conninfo, w->slot);
	return (w->slow != NULL && db_waiting(w->slow) < SLOW_MAX ? w->slow : NULL);
}

void
writes_met_lock(struct writes *w, int64_t match_id, const int64_t *seat_ids, size_t n)
{
	struct hot	*h;
	size_t		 i;

	w->met_lock = true;
	for (i = 0; i < n; i++) {
		if ((h = hot_find(w, match_id, seat_ids[i])) == NULL)
			h = hot_place(w);
		*h = (struct hot){ match_id, seat_ids[i], mono_ms() + HOT_MS };
	}
}

void
writes_went_through(struct writes *w, int64_t match_id, const int64_t *seat_ids, size_t n)
{
	struct hot	*h;
	size_t		 i;

	for (i = 0; i < n && w->met_lock; i++)
		if ((h = hot_find(w, match_id, seat_ids[i])) != NULL)
			h->until_ms = 0;
}

struct writes *
writes_new(struct ev_loop *ev, const char *conninfo, struct board_slot *slot)
{
	struct writes *w;

	if ((w = calloc(1, sizeof(*w))) == NULL)
		return (NULL);
	w->ev = ev;
	w->conninfo = conninfo;
	w->slot = slot;
	if ((w->fast = db_new(ev, conninfo, slot)) == NULL) {
		free(w);
		return (NULL);
	}
	return (w);
}

void
writes_free(struct writes **wp)
{
	if (*wp == NULL)
		return;
	db_free(&(*wp)->fast);
	db_free(&(*wp)->slow);
	free(*wp);
	*wp = NULL;
}
