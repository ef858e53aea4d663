/*
 * cursor - no commit is missed (doc/decisions/exact-cursor.md, src/loop/poller.c).
 *
 * Three writers, a loop that polls, a server that rewrites its table once and
 * fails over once to a replica that is behind.  A transaction takes its id at any
 * time before it writes, and commits or rolls back at any time after; the snapshot
 * of a poll, the reading of the table and the arrival of the answer are steps of
 * their own, and an answer may never arrive.
 *
 * Proved: what a poll takes in leaves memory as the server's snapshot was.
 *
 * With one of these the model fails: GT, OWN_XMIN, XMAX, TORN, REWRITE, NO_RECONCILE, MOVED.
 *	spin -a [-DGT] cursor.pml && cc -O2 -o pan pan.c && ./pan -m100000
 */
#define WRITERS	3
#define TXNS(w)	1		/* of each writer; its seat is its own number */
#define POLLS	3


/* The table and the transactions: what the server knows. */
byte	val[WRITERS];		/* committed */
byte	xid[WRITERS];		/* changed_xid: the writing transaction's id (trigger seatcast.track) */
byte	open_id[WRITERS];	/* of the writer's transaction in progress; 0: it has none yet */
bool	writes[WRITERS];	/* … and it is still open */
byte	next_id = 1;
byte	version;		/* of the table's file: a rewrite makes another */
byte	server;			/* which server answers */

/* The replica, as far as it has replayed. */
byte	rep_val[WRITERS], rep_xid[WRITERS];
byte	rep_next = 1;

/* The loop. */
byte	mem[WRITERS];		/* seat_apply() */
byte	cursor;			/* 0: none yet */
byte	known_server = 255;	/* generation of the last good poll */

byte	started[WRITERS];
bool	failed_over, replayed, rewritten;

inline xmin_r(x) {
	x = next_id;
	for (i : 0 .. WRITERS - 1) {
		if
		:: open_id[i] != 0 && open_id[i] < x -> x = open_id[i]
		:: else
		fi
	}
}

proctype Writer(byte w) {
	do
	:: started[w] < TXNS(w) && (w == 0 || started[w - 1] > 0) ->	/* they are alike: the first is first */
		/* BEGIN, and at some time pg_current_xact_id(); then INSERT or UPDATE, which changes nothing for others */
		atomic { started[w]++; open_id[w] = next_id; next_id++; writes[w] = true };
		if
		:: d_step {			/* COMMIT: visible, and its id has ended */
			if
			:: open_id[w] != 0 && writes[w] -> val[w]++; xid[w] = open_id[w]
			:: else
			fi;
			open_id[w] = 0; writes[w] = false
		}
		:: d_step { open_id[w] = 0; writes[w] = false }			/* ROLLBACK */
		fi
	:: started[w] >= TXNS(w) -> break
	od
}

/* The replica replays once what is committed by then; the failover makes it the server. */
proctype Servers() {
	byte i;

	do
	:: d_step { !failed_over && !replayed -> replayed = true;
		for (i : 0 .. WRITERS - 1) { rep_val[i] = val[i]; rep_xid[i] = xid[i] }
		rep_next = next_id }
	:: d_step { !failed_over -> failed_over = true;
		for (i : 0 .. WRITERS - 1) { val[i] = rep_val[i]; xid[i] = rep_xid[i]; open_id[i] = 0; writes[i] = false }
		next_id = rep_next; server++ }
	:: atomic { !rewritten -> rewritten = true; version++ }		/* ALTER TABLE … that rewrites */
	:: failed_over && rewritten -> break
	od
}

/* One poll after another: poller.c. */
proctype Loop() {
	byte i, polls, here, xm, file, next;
	byte row_val[WRITERS], row_xid[WRITERS];	/* what the snapshot shows */
	bool snapshot, blank;

	do
	:: polls < POLLS ->
		polls++;
		/* poll_now(): the snapshot is taken by the server when the statement begins */
		d_step {
			here = server;
			snapshot = cursor == 0 ||
#ifdef NO_RECONCILE
			    false;
#else
			    known_server != server;
#endif
			for (i : 0 .. WRITERS - 1) { row_val[i] = val[i]; row_xid[i] = xid[i] }
			xmin_r(xm);
#ifdef XMAX
			xm = next_id;
#endif
			file = version
		}
		/* the statement reads the table (another file than its snapshot knows is empty to it), and its answer comes */
		atomic { d_step {
			blank = file != version;
#ifdef TORN
			xmin_r(xm);
#endif
			next = xm
		};
		if
		:: here != server -> skip		/* the connection broke: lose(), and asked again */
		:: else ->
			if
#ifdef MOVED
			:: cursor = next		/* the answer is lost, and the cursor moves all the same */
#else
			:: skip				/* the answer is lost: the cursor stays */
#endif
#ifndef REWRITE
			:: blank -> skip		/* 40001: on_rewritten(), the cursor stays */
			:: !blank ->
#else
			:: true ->
#endif
				d_step {		/* take_in() */
					for (i : 0 .. WRITERS - 1) {
						if
						:: !blank && (snapshot ||
#ifdef GT
						    row_xid[i] > cursor
#else
#ifdef OWN_XMIN
						    row_xid[i] >= xm
#else
						    row_xid[i] >= cursor
#endif
#endif
						    ) -> mem[i] = row_val[i]
						:: else
						fi
					}
					cursor = next;
					known_server = here;
					for (i : 0 .. WRITERS - 1) {
						assert(mem[i] == row_val[i]);
						row_val[i] = 0; row_xid[i] = 0
					}
				}
			fi
		fi }
	:: polls >= POLLS -> break
	od
}

init {
	atomic { run Writer(0); run Writer(1); run Writer(2); run Servers(); run Loop() }
}
