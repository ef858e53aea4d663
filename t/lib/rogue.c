/* SPDX-License-Identifier: ISC */
/*
 * rogue - somebody who may connect to --control, and means no good: what can he do?
 *
 *	rogue CONTROL board		to the scoreboard's memory
 *	rogue CONTROL slot		fills his own slot with nonsense, and stays
 *	rogue CONTROL ghosts N		hands over streams of N blocks that don't exist, and stays
 *	rogue CONTROL spoilt		a hand-over whose text has no end
 *	rogue CONTROL collect		stays, and says what comes
 *
 * Who stays says "ready" and ends with his standard input.  Knows the messages
 * from chan.h, and sends them past chan.c.
 */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mono.h"
#include "shared/board.h"
#include "shared/chan.h"

struct message {
	uint32_t	 type, len;
	char		 payload[4096];
};

static int master;

/* The next message's type; -1: the channel is closed. */
static int
take(int *fd_r)
{
	struct message	 m;
	union {
		struct cmsghdr	align;
		char		bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec	 iov = { &m, sizeof(m) };
	struct msghdr	 msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr	*cm;

	*fd_r = -1;
	if (recvmsg(master, &msg, MSG_CMSG_CLOEXEC) <= 0)
		return (-1);
	for (cm = CMSG_FIRSTHDR(&msg); cm != NULL; cm = CMSG_NXTHDR(&msg, cm))
		memcpy(fd_r, CMSG_DATA(cm), sizeof(*fd_r));
	return ((int)m.type);
}

static void
hand_over(const struct chan_handover *h)
{
	uint32_t	 header[2] = { CHAN_HANDOVER, sizeof(*h) };
	union {
		struct cmsghdr	align;
		char		bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec	 iov[2] = { { header, sizeof(header) }, { (void *)(uintptr_t)h, sizeof(*h) } };
	struct msghdr	 msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr	*cm = CMSG_FIRSTHDR(&msg);
	int		 pair[2];		/* our end stays open: a viewer who reads nothing */

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == -1)
		err(1, "socketpair");
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &pair[1], sizeof(int));
	if (sendmsg(master, &msg, 0) == -1)
		err(1, "sendmsg");
	close(pair[1]);
}

static struct chan_handover
request(int64_t match_id, int64_t block_id)
{
	struct chan_handover h = { .key = { match_id, block_id }, .view = { VIEW_BLOCK, 1, { block_id } }, .request_id = 1,
	    .kind = CHAN_STREAM, .sse = 1, .accepted_ms = INT64_MAX };

	return (h);
}

static void
try(const char *what, int failed)
{
	printf("%s: %s\n", what, failed ? strerror(errno) : "done");
}

static void
attack_board(int board)
{
	try("truncate", ftruncate(board, 0) == -1);
	try("grow", ftruncate(board, 1 << 30) == -1);
	try("write", pwrite(board, "\377", 1, 8) == -1);
	try("map", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, board, 0) == MAP_FAILED);
}

static void
stay(void)
{
	struct pollfd	p[2] = { { .fd = 0, .events = POLLIN }, { .fd = master, .events = POLLIN } };
	int		fd, type;

	printf("ready\n");
	fflush(stdout);
	while (poll(p, 2, -1) > 0 && p[0].revents == 0) {
		if ((type = take(&fd)) == -1) {
			printf("closed\n");
			fflush(stdout);
			p[1].fd = -1;
			continue;
		}
		printf("got %d%s\n", type, fd != -1 ? " with a connection" : "");
		fflush(stdout);
		close(fd);
	}
}

int
main(int argc, char **argv)
{
	struct sockaddr_un	 sun = { .sun_family = AF_UNIX };
	struct chan_handover	 h;
	struct board_slot	*mine;
	const char		*what;
	int			 board, slot, fd, i, n = argc > 3 ? atoi(argv[3]) : 0;

	if (argc < 3)
		errx(2, "usage: rogue CONTROL board|slot|ghosts N|spoilt|collect");
	what = argv[2];
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", argv[1]);
	if ((master = socket(AF_UNIX, SOCK_SEQPACKET, 0)) == -1 ||
	    connect(master, (const struct sockaddr *)&sun, sizeof(sun)) == -1)
		err(1, "%s", argv[1]);
	if (take(&board) != CHAN_WELCOME || take(&slot) != CHAN_SLOT) {
		printf("not welcome\n");
		return (0);
	}
	if (strcmp(what, "board") == 0)
		attack_board(board);
	else if (strcmp(what, "slot") == 0) {
		mine = mmap(NULL, sizeof(*mine), PROT_READ | PROT_WRITE, MAP_SHARED, slot, 0);
		if (mine == MAP_FAILED)
			err(1, "slot");
		try("truncate", ftruncate(slot, 0) == -1);
		memset((void *)mine, 0x7f, sizeof(*mine));
		stay();
	} else if (strcmp(what, "ghosts") == 0) {
		for (i = 0; i < n; i++) {
			h = request(999, 1 + i);
			hand_over(&h);
		}
		stay();
	} else if (strcmp(what, "spoilt") == 0) {
		h = request(1, 101);
		memset(h.if_none_match, '"', sizeof(h.if_none_match));
		hand_over(&h);
		printf(take(&fd) == -1 ? "closed\n" : "open\n");
	} else
		stay();
	return (0);
}
