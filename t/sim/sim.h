/* SPDX-License-Identifier: ISC */
/*
 * sim.h - a day of seatcast played in one process: what the files of the simulation share.
 *
 * The loop wing is linked as it is in production.  What it has from outside is
 * played here, and nothing else is real: the clock and libev (world.c), the database
 * (database.c), the master (master.c), sockets and browsers (browser.c).
 * oracle.c holds the promises of SPEC 2 against what each browser shows.
 *
 * A story (story.c) is a list of actions made from a seed before it is played.
 * Chance while it is played comes from the seed, the thing it is about and how often
 * that thing was asked: so an action can be left out without moving the others,
 * and a story that fails shrinks to one that a person can read (main.c).
 *
 * One story at a time, in a process of its own: the globals are its.
 */
#ifndef SIM_H
#define SIM_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/opts.h"
#include "shared/chan.h"

#define MS		INT64_C(1000)		/* times are microseconds */
#define SECOND		INT64_C(1000000)
#define NEVER		INT64_MAX

#define MAX_SEATS	600			/* of the whole stadium, numbered from 0; the database's ids are SEAT_ID */
#define MAX_BLOCKS	8
#define WRITERS		5
#define BROWSERS	14
#define MATCH		1
#define SEAT_ID(i)	((int64_t)(i) + 101)
#define BLOCK_ID(i)	((int64_t)(i) + 101)

enum status { AVAILABLE, HOLD, OCCUPIED, ODD, NONE };	/* ODD: a text that the program does not know; NONE: no such seat */
extern const char *const status_names[];

/* --- what a story is about, drawn from its seed ------------------------------ */

struct setup {
	uint64_t	 seed;
	int64_t		 length_us;
	int		 nseats, nblocks;
	bool		 match;			/* the loop is a match's; else that of block 0 */
	bool		 gentle;		/* no faults but slow browsers: the strictest rules hold throughout */
	struct opts	 opts;
};
extern struct setup	 setup;

/* --- actions ------------------------------------------------------------------ */

enum action_kind {
#define ACTION(NAME, weight, fault, words)	A_##NAME,
#include "actions_tbl.h"
#undef ACTION
	A__MAX
};

struct action {
	int64_t		 at_us;		/* since the story began */
	enum action_kind kind;
	int		 who;		/* writer or browser */
	int		 a, b, c;	/* what they mean is in the table's words and in act() */
};

struct story {
	struct action	*actions;
	size_t		 count;
};

void	story_setup(uint64_t seed, int64_t length_us);	/* fills `setup` */
void	story_make(struct story *s);			/* from `setup` */
void	story_say(const struct action *a, char *out, size_t size);
void	story_act(const struct action *a);
bool	action_is_fault(enum action_kind k);
const char *action_name(enum action_kind k);

/* --- chance --------------------------------------------------------------------- */

enum dice { D_LATENCY, D_ROOM, D_RETRY, D_PRODUCT, D_NET, D_CONNECT, D_EPOCH, D__MAX };
uint64_t dice_roll(enum dice d, int who);
int64_t	 dice_between(enum dice d, int who, int64_t low, int64_t high);	/* both included */
bool	 dice_one_in(enum dice d, int who, int n);

/* --- the world: time, and whose turn it is ------------------------------------------ */

extern int64_t	 world_us;		/* monotonic; the story begins at WORLD_BEGIN_US */
#define WORLD_BEGIN_US	(1000 * SECOND)
extern bool	 loop_lives;
extern int64_t	 stalled_us;		/* the process did not run until then: what is late because of it is excused */

typedef void later_cb(void *arg, int number);
void	world_at(int64_t at_us, later_cb *cb, void *arg, int number);
int64_t	world_story_us(void);		/* since the story began */
void	world_play(const struct story *s) __attribute__((noreturn));	/* all of it, and the quiet time after it; then this process ends */
void	world_stall(int64_t us);
void	world_crash(void);		/* does not return when it is called from inside the loop */
void	world_forget_watchers(void);
ev_io	*world_io(int fd);		/* the watcher of a simulated descriptor; NULL: none */
void	world_io_ready(void);		/* look at the sockets again */
extern bool world_quiet;		/* the faults are over: what is left is to converge */

/* --- the master -------------------------------------------------------------------- */

void	master_hand_over(const struct chan_handover *h, int fd);	/* forks a loop if there is none */
void	master_drain(int64_t spread_ms);
void	master_wrote(void);
void	master_loop_died(void);
bool	master_wants_loop(void);
int64_t	master_counter(int value);	/* of the loop's slot and of those before it */

/* --- the database -------------------------------------------------------------------- */

struct row {
	bool		 exists;
	uint8_t		 status;
	int64_t		 expires_ms;	/* NEVER: none */
	uint64_t	 xid;
};

/* What one poll was told. */
struct polled {
	uint8_t		 status[MAX_SEATS];	/* NONE: not there */
	int64_t		 expires_ms[MAX_SEATS];
	int64_t		 as_of_ms;
	int64_t		 at_us;			/* when as_of was */
	int64_t		 seen_us;		/* what was committed by then is in it: a standby is behind */
};

void	database_start(void);
void	database_begin(int w);
void	database_set(int w, int seat, int count, enum status st, int64_t hold_ms);	/* w has no transaction: one of its own */
void	database_savepoint(int w);
void	database_rollback_to(int w);
enum ending { COMMIT, ROLLBACK, PREPARE };
void	database_end(int w, enum ending how);
void	database_delete(int w, int seat);
void	database_take_id(int w);
void	database_rewrite(bool truncate);
void	database_seat(int seat, bool there);
void	database_step(int64_t ms);
void	database_down(int64_t us);
void	database_freeze(int64_t us);
void	database_cut(void);
void	database_slow(int64_t latency_us, int64_t for_us);
void	database_errors(int n, int which);
void	database_odd_answers(int n, int which);
void	database_failover(int64_t behind_us, int64_t down_us, bool silent);
void	database_standby(int64_t lag_us, int64_t for_us);
void	database_heal(void);
void	database_crash_loop(void);	/* the loop's connection is gone with it */
int64_t	database_clock_ms(void);
int	database_block_of(int seat);
const struct row *database_row(int seat);	/* NULL: no such seat */
bool	database_answers(void);		/* nothing is wrong with it */
int64_t	database_healthy_us(void);	/* since when nothing is wrong; NEVER: something is */

/* Planted faults that live in the port functions: not the program's, but it must show. */
enum plant { PLANT_NONE, PLANT_GT, PLANT_OWN_XMIN, PLANT_XMAX, PLANT_TORN, PLANT_REWRITE };
extern enum plant plant;
int	plant_parse(const char *name);	/* 0 or -1 */

/* --- browsers ---------------------------------------------------------------------------- */

enum net { NET_OPEN, NET_SLOW, NET_SHUT, NET_BUFFER };
void	browser_start(void);
void	browser_come(int who, int how, int blocks);
void	browser_go(int who, int how);
void	browser_net(int who, enum net mode, int amount);
void	browser_cut(int who, int after_bytes);
void	browser_snapshot(int who, bool etag);
void	browser_changes(int who);
void	browser_heal(void);
void	browser_loop_died(void);	/* the kernel closes its sockets */
void	browser_check_all(void);	/* at the end */

/* --- the oracle --------------------------------------------------------------------------- */

void	oracle_start(void);
void	oracle_truth(int seat);		/* the database may show something else now */
void	oracle_truth_all(void);
void	oracle_only_reconcile(int seat);	/* the row is gone without a trace: only a snapshot finds it */
void	oracle_layout(void);		/* seats come or go */
bool	oracle_layout_moved(void);
bool	oracle_late_is_fine(void);
void	oracle_clock_stepped(int64_t before_ms, int64_t by_ms);
void	oracle_query(void);	/* the loop asks the database */
void	oracle_polled(const struct polled *p, bool snapshot);	/* the loop has taken an answer in */
int64_t	oracle_last_good_us(void);
/* A browser was told: is that a state not older than what it showed (index_r: where in history)?  late: its bytes lay about.  Fails the story. */
void	oracle_shown(int who, bool late, int seat, enum status st, uint32_t *index_r);
bool	oracle_matches(int seat, enum status shown);	/* against the last poll, with the clock since */
enum status oracle_wanted(int seat);
bool	oracle_unsure(int seat);
enum status truth_now(int seat);

/* The story fails: prints why, and ends this process. */
void	broken(const char *rule, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void	say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));	/* with --verbose */
extern bool verbose;

/* What was done, for the report. */
struct tally {
	int64_t	polls, snapshots, events, inits, resumes, passes, connections, checks, crashes, etags, changes, counts;
	int64_t	done[A__MAX];
};
extern struct tally *tally;

#endif
