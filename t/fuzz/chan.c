/*
 * fuzz chan: what a process that was taken over could say to another.  The first
 * byte says who listens to whom and whether a descriptor comes along; the rest is the
 * message.  What must hold: texts that come through end, numbers are in their
 * bounds, and no descriptor is left open.
 */
#include <sys/socket.h>
#include <sys/uio.h>

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/must.h"
#include "shared/chan.h"

int	LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static const enum chan_role pairs[][2] = {
	{ CHAN_MASTER, CHAN_WORKER }, { CHAN_WORKER, CHAN_MASTER }, { CHAN_MASTER, CHAN_LOOP }, { CHAN_LOOP, CHAN_MASTER }
};

static void
check_handover(const struct chan_handover *h)
{
	must(memchr(h->if_none_match, '\0', sizeof(h->if_none_match)) != NULL);
	must(memchr(h->origin, '\0', sizeof(h->origin)) != NULL);
	must(memchr(h->client, '\0', sizeof(h->client)) != NULL);
	must(h->view.nblocks <= VIEW_MAX_BLOCKS);
}

static void
on_message(struct chan *c, enum chan_type type, const union chan_payload *p, int fd)
{
	(void)c;
	must(type < CHAN__MAX);
	if (type == CHAN_HANDOVER || type == CHAN_ADOPT)
		check_handover(&p->handover);
	if (type == CHAN_REFUSE)
		check_handover(&p->refusal.handover);
	if (type == CHAN_GONE)
		must(p->gone.n <= CHAN_GONE_MAX);
	if (fd != -1)
		close(fd);
}

static void
on_closed(struct chan *c, const char *why)
{
	(void)why;
	chan_fini(c);
}

static void
send_raw(int to, const uint8_t *data, size_t size, int fd)
{
	union {
		struct cmsghdr	align;
		char		bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec	 iov = { (void *)(uintptr_t)data, size };
	struct msghdr	 msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd != -1) {
		struct cmsghdr *cm;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	}
	(void)sendmsg(to, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ev_loop	*ev;
	static int		 lowest = -1;
	struct chan		 c;
	int			 fds[2], with = -1, probe;

	if (size == 0)
		return (0);
	if (ev == NULL && (ev = ev_loop_new(EVFLAG_AUTO)) == NULL)
		abort();
	if (chan_pair(fds) == -1)
		abort();
	chan_init(&c, ev, fds[0], pairs[data[0] & 3][0], pairs[data[0] & 3][1], 4, on_message, on_closed, NULL);
	if (data[0] & 4)
		with = open("/dev/null", O_RDONLY | O_CLOEXEC);
	send_raw(fds[1], data + 1, size - 1, with);
	close(fds[1]);
	if (with != -1)
		close(with);
	chan_read_all(&c);
	chan_fini(&c);
	probe = open("/dev/null", O_RDONLY | O_CLOEXEC);
	must(lowest == -1 || probe == lowest);	/* nothing below it is left open */
	lowest = probe;
	close(probe);
	return (0);
}
