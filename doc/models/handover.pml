/*
 * handover - no connection is answered twice or never (doc/decisions/hand-over.md).
 *
 * Two workers hand three connections over to a master; the group has two loops, one
 * after the other.  Messages wait in channels; what is on the board (begun, lost) is
 * seen at once.  A loop may be unable to take a connection once; two processes
 * may crash, at any point.
 *
 * Proved: nothing is answered twice; and when all has come to rest everything was
 * answered, but for what a crashed process itself had in its hands (an answer it
 * had begun, a request not yet handed over, a refusal not yet written).
 *
 * With one of these the model fails:
 *	NO_COPY		the master keeps no duplicate
 *	BEGUN_ALL	begun is said for all who wait
 *	BEGUN_LATE	begun is said after the first byte
 *	RESCUE_ALL	what was begun is handed over again, too
 *	IGNORE_LOST	nobody answers what a loop could not take
 *	LOST_BEHIND	LOST is a message only, and begun overtakes it
 *	LEAVE_AT_ONCE	a loop goes without asking, and its transfers are not rescued
 *	spin -a [-DNO_COPY] handover.pml && cc -O2 -DCOLLAPSE -o pan pan.c && ./pan -m100000
 */
#define CONNS	3
#define WORKERS	2
#define LOOPS	2
#define NONE	255

mtype = { ADOPT, LEAVE, LOST, LEAVING };

chan to_master[WORKERS] = [2] of { byte };		/* HANDOVER: connection */
chan to_worker[WORKERS] = [CONNS] of { byte };		/* REFUSE */
chan to_loop[LOOPS] = [CONNS + 1] of { mtype, byte, byte };	/* ADOPT connection number; LEAVE */
chan from_loop[LOOPS] = [4] of { mtype, byte };		/* LOST number; LEAVING adopted */

/* What happened to a connection. */
byte	answered[CONNS];
bool	cut[CONNS];			/* ended with the process that had it in its hands */

/* The board, and what the kernel knows. */
byte	begun[LOOPS], lost[LOOPS];
bool	worker_lives[WORKERS], loop_lives[LOOPS], loop_died[LOOPS], buried[LOOPS];
byte	crashes = 2, losses = 1;

/* The master's. */
byte	live = NONE;			/* the group's loop */
byte	next_loop;
byte	sent[LOOPS], lost_known[LOOPS];
bool	expected[LOOPS];
byte	copy_of[CONNS] = NONE;		/* the loop it is on its way to: struct transfer */
byte	copy_number[CONNS];

inline answer(c) {
	answered[c]++;
	assert(answered[c] <= 1)
}

/* worker.c, stream.c: one accepts connections 0 and 1, the other 2. */
proctype Worker(byte w) {
	byte c, mine, end;

	mine = (w == 0 -> 0 : 2);
	end = (w == 0 -> 2 : 3);
	do
	:: mine < end && len(to_master[w]) < 2 -> atomic { to_master[w]!mine; mine++ }	/* hand_over() */
	:: atomic { to_worker[w]?c -> answer(c) }						/* answer_refused() */
	:: atomic { crashes > 0 -> crashes--; worker_lives[w] = false;
		do
		:: mine < end -> cut[mine] = true; mine++
		:: else -> break
		od;
		do
		:: to_worker[w]?c -> cut[c] = true
		:: empty(to_worker[w]) -> break
		od } ->
		break
	od
}

/* loop.c, fanout.c */
proctype Loop(byte i) {
	byte c, n, adopted, first, waiting, current = NONE;
	byte conn[CONNS], number[CONNS];	/* who waits, by number: [first, waiting) */
	bool asked;
	byte late;

	do
	:: current == NONE && to_loop[i]?[ADOPT, _, _] -> atomic {	/* adopt() */
		to_loop[i]?ADOPT, c, n;
		adopted++;
		asked = false;
		if
		:: losses > 0 ->		/* report_lost() */
			losses--;
			from_loop[i]!LOST, n;
			lost[i]++
		:: conn[waiting] = c; number[waiting] = n; waiting++	/* fanout_attach() */
		fi }
	:: current == NONE && first < waiting -> atomic {		/* begin(), for the first who waits */
		current = conn[first];
#ifdef BEGUN_ALL
		begun[i] = number[waiting - 1];
#endif
#ifndef BEGUN_LATE
#ifndef BEGUN_ALL
		begun[i] = number[first];
#endif
#endif
		first++ }
	:: current != NONE -> atomic { answer(current);		/* viewer_push(): its bytes */
#ifdef BEGUN_LATE
		late = number[first - 1];
#endif
		current = NONE }
#ifdef BEGUN_LATE
	:: late != 0 -> atomic { begun[i] = late; late = 0 }
#endif
#ifdef LEAVE_AT_ONCE
	:: atomic { current == NONE && first == waiting && adopted > 0 -> expected[i] = true;
		loop_lives[i] = false; loop_died[i] = true } -> break
#else
	:: atomic { current == NONE && first == waiting && adopted > 0 && !asked && nfull(from_loop[i]) ->
		asked = true;
		from_loop[i]!LEAVING, adopted }			/* on_linger() */
#endif
	:: atomic { to_loop[i]?[LEAVE, _, _] && current == NONE && first == waiting -> to_loop[i]?LEAVE, _, _;
		loop_lives[i] = false; loop_died[i] = true } -> break
	:: atomic { crashes > 0 -> crashes--;
		if
		:: current != NONE && answered[current] == 0 -> cut[current] = true
		:: else
		fi;
		loop_lives[i] = false; loop_died[i] = true } -> break
	od
}

/* group.c: refuse() */
inline refuse(c) {
	if
	:: worker_lives[0] -> to_worker[0]!c
	:: worker_lives[1] -> to_worker[1]!c
	:: !worker_lives[0] && !worker_lives[1] -> cut[c] = true	/* until one is forked again */
	fi
}

/* group_settle(): give up the duplicates of what has begun, when no LOST can be on its way for them. */
inline settle(l) {
	if
#ifdef LOST_BEHIND
	:: true ->
#else
	:: lost[l] == lost_known[l] ->
#endif
		for (k : 0 .. CONNS - 1) {
			if
			:: copy_of[k] == l && copy_number[k] <= begun[l] -> copy_of[k] = NONE
			:: else
			fi
		}
#ifndef LOST_BEHIND
	:: else
#endif
	fi
}

/* group_lost() */
inline was_lost(l, n) {
#ifndef IGNORE_LOST
	for (k : 0 .. CONNS - 1) {
		if
		:: copy_of[k] == l && copy_number[k] == n -> copy_of[k] = NONE; refuse(k)
		:: else
		fi
	}
#else
	skip
#endif
}

/* group_handover() */
inline handover(c) {
	if
	:: live != NONE && !loop_lives[live] -> live = NONE		/* EPIPE: it has just died */
	:: else
	fi;
	if
	:: live == NONE && next_loop < LOOPS ->			/* child_spawn() */
		live = next_loop; next_loop++;
		loop_lives[live] = true;
		run Loop(live)
	:: else
	fi;
	if
	:: live == NONE -> refuse(c)
	:: else ->							/* adopt() */
		settle(live);
		sent[live]++;
		to_loop[live]!ADOPT, c, sent[live];
#ifndef NO_COPY
		copy_of[c] = live;
		copy_number[c] = sent[live]
#endif
	fi
}

/* master.c, group.c */
proctype Master() {
	byte c, n, l, k;

	do
	:: atomic { to_master[0]?c -> handover(c) }
	:: atomic { to_master[1]?c -> handover(c) }
	:: atomic { from_loop[0]?[LOST, _] || from_loop[1]?[LOST, _] ->
		if
		:: from_loop[0]?[LOST, _] -> l = 0
		:: else -> l = 1
		fi;
		from_loop[l]?LOST, n;
		lost_known[l]++;
		was_lost(l, n) }
	:: atomic { from_loop[0]?[LEAVING, _] || from_loop[1]?[LEAVING, _] ->
		if
		:: from_loop[0]?[LEAVING, _] -> l = 0
		:: else -> l = 1
		fi;
		from_loop[l]?LEAVING, n;
		if
		:: n == sent[l] && !expected[l] && loop_lives[l] ->	/* group_let_go() */
			to_loop[l]!LEAVE, 0, 0;
			expected[l] = true;
			if
			:: live == l -> live = NONE
			:: else
			fi
		:: else
		fi }
	:: atomic { live != NONE && lost[live] == lost_known[live] &&		/* on_transfer_look() */
		((copy_of[0] == live && copy_number[0] <= begun[live]) || (copy_of[1] == live && copy_number[1] <= begun[live]) ||
		(copy_of[2] == live && copy_number[2] <= begun[live])) -> settle(live) }
	:: atomic { (loop_died[0] && !buried[0]) || (loop_died[1] && !buried[1]) ->	/* SIGCHLD: bury() */
		l = (loop_died[0] && !buried[0] -> 0 : 1);
		buried[l] = true;
		if
		:: live == l -> live = NONE
		:: else
		fi;
		do						/* chan_read_all(): what it had said */
#ifndef LOST_BEHIND
		:: from_loop[l]?LOST, n -> lost_known[l]++; was_lost(l, n)
		:: from_loop[l]?LEAVING, n -> skip
#else
		:: from_loop[l]?_, n -> skip
#endif
		:: empty(from_loop[l]) -> break
		od;
#ifndef RESCUE_ALL
		settle(l);
#endif
		for (c : 0 .. CONNS - 1) {				/* group_rescue() */
			if
#ifdef LEAVE_AT_ONCE
			:: copy_of[c] == l && expected[l] -> copy_of[c] = NONE
			:: copy_of[c] == l && !expected[l] -> copy_of[c] = NONE; handover(c)
#else
			:: copy_of[c] == l -> copy_of[c] = NONE; handover(c)
#endif
			:: else
			fi
		} }
	od
}

/* All has come to rest. */
proctype Rest() {
	timeout ->
	assert((answered[0] == 1 || cut[0]) && (answered[1] == 1 || cut[1]) && (answered[2] == 1 || cut[2]))
}

init {
	atomic {
		worker_lives[0] = true; worker_lives[1] = true;
		run Worker(0); run Worker(1); run Master(); run Rest()
	}
}
