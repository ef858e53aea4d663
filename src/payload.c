#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "fcgi.h"
#include "must.h"
#include "payload.h"

/* Room for len bytes, with one reference. */
static struct payload *
payload_alloc(size_t len)
{
	struct payload	*p;

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
static struct payload *
payload_framed(uint16_t request_id, const void *content, size_t len, size_t extra)
{
	struct payload	*p;

	if (len > SIZE_MAX / 4) {	/* framing may not overflow */
		errno = ENOMEM;
		return (NULL);
	}
	if ((p = payload_alloc(fcgi_stdout_bytes(len) + extra)) == NULL)
		return (NULL);
	if (len > 0)		/* an empty STDOUT record would end the stream */
		must(fcgi_stdout(p->bytes, request_id, content, len) == p->len - extra);
	return (p);
}

struct payload *
payload_new(uint16_t request_id, const void *content, size_t len)
{
	return (payload_framed(request_id, content, len, 0));
}

struct payload *
payload_new_last(uint16_t request_id, const void *content, size_t len)
{
	struct payload	*p;

	if ((p = payload_framed(request_id, content, len, FCGI_END_BYTES)) == NULL)
		return (NULL);
	fcgi_end(p->bytes + p->len - FCGI_END_BYTES, request_id, FCGI_STATUS_COMPLETE);
	return (p);
}

struct payload *
payload_from(uint16_t request_id, const struct buf *b)
{
	return (buf_ok(b) ? payload_new(request_id, b->data, b->len) : NULL);
}

struct payload *
payload_last_from(uint16_t request_id, const struct buf *b)
{
	return (buf_ok(b) ? payload_new_last(request_id, b->data, b->len) : NULL);
}

struct payload *
payload_grow(struct payload *p, uint16_t request_id, const void *content, size_t len, int64_t next_seat)
{
	size_t			 more = fcgi_stdout_bytes(len);
	struct payload_part	*parts;
	struct payload		*grown;

	must(p->refs == 1 && len > 0);
	if ((parts = reallocarray(p->parts, p->nparts + 1, sizeof(*parts))) != NULL)
		p->parts = parts;
	if (parts == NULL || (grown = realloc(p, sizeof(*p) + p->len + more)) == NULL) {
		payload_unref(&p);
		return (NULL);
	}
	p = grown;
	must(fcgi_stdout(p->bytes + p->len, request_id, content, len) == more);
	p->len += more;
	p->parts[p->nparts].end = p->len;
	p->parts[p->nparts++].next_seat = next_seat;
	return (p);
}

struct payload *
payload_part_at(const struct payload *p, size_t offset, size_t *start_r, int64_t *next_r)
{
	struct payload	*part;
	size_t		 start = 0;
	unsigned	 i;

	must(offset < p->len && p->nparts > 0);
	for (i = 0; p->parts[i].end <= offset; i++)
		start = p->parts[i].end;
	if ((part = payload_alloc(p->parts[i].end - start)) == NULL)
		return (NULL);
	memcpy(part->bytes, p->bytes + start, part->len);
	*start_r = start;
	*next_r = p->parts[i].next_seat;
	return (part);
}

struct payload *
payload_readdressed(const struct payload *p, uint16_t request_id)
{
	struct payload	*copy;

	if ((copy = payload_alloc(p->len)) == NULL)
		return (NULL);
	copy->events = p->events;
	memcpy(copy->bytes, p->bytes, p->len);
	fcgi_readdress(copy->bytes, copy->len, request_id);
	return (copy);
}

struct payload *
payload_ref(struct payload *p)
{
	must(p->refs > 0);
	p->refs++;
	return (p);
}

void
payload_unref(struct payload **pp)
{
	struct payload	*p = *pp;

	*pp = NULL;
	if (p == NULL)
		return;
	must(p->refs > 0);
	if (--p->refs == 0) {
		free(p->parts);
		free(p);
	}
}
