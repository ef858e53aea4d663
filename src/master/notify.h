/* SPDX-License-Identifier: ISC */
/*
 * notify - tells a supervisor how we are, if it wants to know.
 *
 * The protocol of sd_notify(3): one datagram to the socket that NOTIFY_SOCKET
 * names.  Without that variable nothing happens.
 * Runs in: master.  Never blocks.  Logs nothing.
 */
#ifndef NOTIFY_H
#define NOTIFY_H

void	notify(const char *state);	/* "READY=1", "STOPPING=1" */
void	notify_alive(void);		/* "WATCHDOG=1", if WATCHDOG_USEC says that it is waited for; once a second is often enough */

#endif
