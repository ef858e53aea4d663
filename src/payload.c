#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	if (--p->refs == 0)
		free(p);
}
