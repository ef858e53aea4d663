/* SPDX-License-Identifier: ISC */
/*
 * sim_parts.h - what the parts of the world say to each other and to nobody else.
 */
#ifndef SIM_PARTS_H
#define SIM_PARTS_H

#include "sim.h"

/* What waits for the loop's process until it runs. */
typedef void inbox_cb(void *arg, int number);
void	inbox_put(inbox_cb *cb, void *arg, int number);
bool	inbox_turn(void);		/* one of them; false: empty */
void	inbox_clear(void);

void	master_run_loop(void);
int	socket_events(int fd);		/* EV_READ, EV_WRITE: what a socket has to say */
void	oracle_sweep(void);		/* once a second */
void	oracle_end(void);
void	oracle_expect(const struct polled *p, int64_t round_us);	/* an answer is about to be taken in */
void	oracle_back_in_time(int64_t behind_us, bool without_cursor);	/* a standby answers */
void	oracle_unexpect(void);		/* and was not */
extern int64_t delivery_us;		/* when what a browser reads now was sent */

/* A browser's socket, from its master and its loop. */
int	socket_answered(int fd);	/* bytes that came out of it */
void	socket_adopted(int fd);		/* its loop has it */
bool	socket_is_open(int fd);

bool	master_drains(void);		/* the loop is on its way out */
bool	master_has_flight(int fd);	/* it waits for the next loop */
int64_t	master_loop_age_us(void);
extern uint64_t world_turns;		/* how often the loop had nothing left to do at once */

/* For the oracle: what a browser shows, when that can be compared. */
void	browsers_compare(const char *rule);
void	browsers_sweep(void);
int	browsers_open(void);
void	browsers_polled(void);

#endif
