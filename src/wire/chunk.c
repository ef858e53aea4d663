/* SPDX-License-Identifier: ISC */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/must.h"
#include "wire/chunk.h"
#include "wire/fcgi.h"

/* Room for len bytes, with one reference. */
static struct chunk *
chunk_alloc(size_t len)
{
	struct chunk	*p;

	if ((p = malloc(sizeof(*p) + len)) == NULL)
		return (NULL);
	p->refs = 1;
	p->events = 0;
	p->nparts = 0;
	p->parts = NULL;
	p->len = len;
	return (p);
}

/* Framed content, with room for extra bytes behind it. */
static struct chunk *
chunk_framed(uint16_t request_id, const void *content, size_t len, size_t extra)
{
	struct chunk	*p;

	if (len > SIZE_MAX / 4) {	/* framing may not overflow */
		errno = ENOMEM;
		return (NULL);
	}
	if ((p = chunk_alloc(fcgi_stdout_bytes(len) + extra)) == NULL)
		return (NULL);
	if (len > 0)		/* an empty STDOUT record would end the stream */
		must(fcgi_stdout(p->bytes, request_id, content, len) == p->len - extra);
	return (p);
}

struct chunk *
chunk_new(uint16_t request_id, const void *content, size_t len)
{
	return (chunk_framed(request_id, content, len, 0));
}

struct chunk *
chunk_new_last(uint16_t request_id, const void *content, size_t len)
{
	struct chunk	*p;

	if ((p = chunk_framed(request_id, content, len, FCGI_END_BYTES)) == NULL)
		return (NULL);
	fcgi_end(p->bytes + p->len - FCGI_END_BYTES, request_id, FCGI_REQUEST_COMPLETE);
	return (p);
}

struct chunk *
chunk_from(uint16_t request_id, const struct buf *b)
{
	return (buf_ok(b) ? chunk_new(request_id, b->data, b->len) : NULL);
}

struct chunk *
chunk_last_from(uint16_t request_id, const struct buf *b)
{
	return (buf_ok(b) ? chunk_new_last(request_id, b->data, b->len) : NULL);
}

struct chunk *
chunk_grow(struct chunk *p, uint16_t request_id, const void *content, size_t len, uint64_t next)
{
	size_t			 more = fcgi_stdout_bytes(len);
	struct chunk_part	*parts;
	struct chunk		*grown;

	must(p->refs == 1 && len > 0);
	if ((parts = reallocarray(p->parts, p->nparts + 1, sizeof(*parts))) != NULL)
		p->parts = parts;
	if (parts == NULL || (grown = realloc(p, sizeof(*p) + p->len + more)) == NULL) {
		chunk_unref(&p);
		return (NULL);
	}
	p = grown;
	must(fcgi_stdout(p->bytes + p->len, request_id, content, len) == more);
	p->len += more;
	p->parts[p->nparts].end = p->len;
	p->parts[p->nparts++].next = next;
	return (p);
}

struct chunk *
chunk_part_at(const struct chunk *p, size_t offset, size_t *start_r, uint64_t *next_r)
{
	struct chunk	*part;
	size_t		 start = 0;
	unsigned	 i;

	must(offset < p->len && p->nparts > 0);
	for (i = 0; p->parts[i].end <= offset; i++)
		start = p->parts[i].end;
	if ((part = chunk_alloc(p->parts[i].end - start)) == NULL)
		return (NULL);
	memcpy(part->bytes, p->bytes + start, part->len);
	*start_r = start;
	*next_r = p->parts[i].next;
	return (part);
}

struct chunk *
chunk_readdressed(const struct chunk *p, uint16_t request_id)
{
	struct chunk	*copy;

	if ((copy = chunk_alloc(p->len)) == NULL)
		return (NULL);
	copy->events = p->events;
	memcpy(copy->bytes, p->bytes, p->len);
	fcgi_readdress(copy->bytes, copy->len, request_id);
	return (copy);
}

struct chunk *
chunk_ref(struct chunk *p)
{
	must(p->refs > 0);
	p->refs++;
	return (p);
}

void
chunk_unref(struct chunk **pp)
{
	struct chunk	*p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	must(p->refs > 0);
	if (--p->refs == 0) {
		free(p->parts);
		free(p);
	}
}
