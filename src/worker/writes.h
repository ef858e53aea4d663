/* SPDX-License-Identifier: ISC */
/*
 * writes - which connection a statement that writes goes through, and when there is
 * no room for another.
 *
 * Reads have a connection of their own; a write may have to wait for a row, and
 * whoever stands behind it waits as well.  So a seat whose row was found locked is
 * hot for a while: its buyers have a slow lane, opened for them, in which one at a
 * time asks whether it is still locked; the others hear at once that it is busy.
 * Everybody else goes on in the fast lane, which has an end too.
 * Runs in: worker.  Never blocks.
 */
#ifndef WRITES_H
#define WRITES_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WRITES_MAX	256	/* that wait in the fast lane: a quarter of a second, all told */

struct board_slot;
struct db;
struct writes;

struct writes	*writes_new(struct ev_loop *ev, const char *conninfo, struct board_slot *slot);	/* NULL: ENOMEM */
void		 writes_free(struct writes **wp);

/* The lane for a statement about these seats; NULL: it is full (*hot_r: the slow one), or ENOMEM. */
struct db	*writes_lane(struct writes *w, int64_t match_id, const int64_t *seat_ids, size_t n, bool *hot_r);

/* A row was locked (SQLSTATE 55P03), or the statement went through. */
void		 writes_met_lock(struct writes *w, int64_t match_id, const int64_t *seat_ids, size_t n);
void		 writes_went_through(struct writes *w, int64_t match_id, const int64_t *seat_ids, size_t n);

#endif
