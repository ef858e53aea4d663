/*
 * fuzz port: what port functions of a site's own may answer.  An input is rows of
 * cells: a byte that says how long (255: NULL), then so many bytes.  What must
 * hold: an answer of another shape is refused; of a good one no row is made up.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/must.h"
#include "loop/port.h"

#define COLUMNS	7
#define SEATS	2

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static const int lengths[2][COLUMNS] = { { 4, 8, 8, -1, 8, -1, 8 }, { 4, 8, -1, -1, -1, -1, 8 } };	/* rows, arrays */

/* The first byte: its highest bit for arrays; and which column, if any, is of another length than it should be. */
static PGresult *
shape(bool arrays, int odd)
{
	PGresAttDesc	 att[COLUMNS];
	PGresult	*r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	char		 name[] = "c";
	int		 i;

	if (r == NULL)
		abort();
	memset(att, 0, sizeof(att));
	for (i = 0; i < COLUMNS; i++) {
		att[i].name = name;
		att[i].format = odd != i + 100;
		att[i].typlen = odd == i ? 2 : lengths[arrays][i];
	}
	must(PQsetResultAttrs(r, odd == 99 ? COLUMNS - 1 : COLUMNS, att));
	return (r);
}

/* A seat is a row, or 4 bytes at least of the array that has the ids. */
static size_t
seats_at_most(const PGresult *r)
{
	size_t	bytes = 0;
	int	row;

	for (row = 0; row < PQntuples(r); row++)
		bytes += (size_t)PQgetlength(r, row, SEATS);
	return (PQfsize(r, SEATS) == -1 ? bytes / 4 : (size_t)PQntuples(r));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct group_key	 key = { 1, 101 };
	struct port		 p;
	PGresult		*r;
	const char		*cursor;
	int64_t			 as_of_ms;
	int			 row, col;
	bool			 arrays;

	if (size == 0)
		return (0);
	arrays = data[0] >= 0x80;
	r = shape(arrays, data[0] & 0x7f);
	data++;
	size--;
	for (row = 0; size > 0 && row < 64; row++)
		for (col = 0; col < PQnfields(r); col++) {
			char	cell[256] = { 0 };
			int	len = size > 0 ? *data++ : 255;

			size -= size > 0;
			if (len != 255) {
				size_t n = (size_t)len < size ? (size_t)len : size;

				memcpy(cell, data, n);
				data += n;
				size -= n;
				if (lengths[arrays][col] > 0)
					len = lengths[arrays][col];	/* the server keeps to what it announced */
			} else if (col == 0)
				len = lengths[arrays][0];		/* the part is a constant of the statement */
			must(PQsetvalue(r, row, col, len == 255 ? NULL : cell, len == 255 ? -1 : len));
		}
	port_init(&p, &key);
	if (port_mark(r, &cursor, &as_of_ms) == NULL) {
		ssize_t changes = port_rows(&p, r, PORT_CHANGES), snapshot, i;

		must(cursor != NULL && changes >= 0);
		for (i = 0; i < changes; i++)
			must(p.rows[i].id >= 1 && p.rows[i].status <= SEAT_OCCUPIED);
		snapshot = port_rows(&p, r, PORT_SNAPSHOT);
		must(snapshot >= 0 && (size_t)(changes + snapshot) < seats_at_most(r));
	}
	port_fini(&p);
	PQclear(r);
	return (0);
}
