/* SPDX-License-Identifier: ISC */
/*
 * Every message between processes, one row:
 * CHAN_MSG(NAME, from, to, payload struct, carries a descriptor, meaning)
 *
 * chan.c checks sender, receiver, exact length and descriptor against this
 * table, so nobody else has to.
 */
CHAN_MSG(READY, CHAN_WORKER | CHAN_LOOP, CHAN_MASTER, struct chan_nothing, 0, "the child serves")
CHAN_MSG(WELCOME, CHAN_MASTER, CHAN_WORKER, struct chan_nothing, 1, "to a worker that joined: the scoreboard's memory, to be read")
CHAN_MSG(SLOT, CHAN_MASTER, CHAN_WORKER, struct chan_nothing, 1, "to a worker that joined, after WELCOME: the memory of its own slot")
CHAN_MSG(HANDOVER, CHAN_WORKER, CHAN_MASTER, struct chan_handover, 1, "request read; the loop of its group is to own the connection")
CHAN_MSG(ADOPT, CHAN_MASTER, CHAN_LOOP, struct chan_handover, 1, "the connection is yours")
CHAN_MSG(LOST, CHAN_LOOP, CHAN_MASTER, struct chan_lost, 0, "an ADOPT could not be taken, out of descriptors or memory: refuse it")
CHAN_MSG(REFUSE, CHAN_MASTER, CHAN_WORKER, struct chan_refusal, 1, "no loop for it: answer it politely")
CHAN_MSG(GONE, CHAN_LOOP, CHAN_MASTER, struct chan_gone, 0, "these connections have ended, of those that were adopted")
CHAN_MSG(GIVE_WAY, CHAN_MASTER, CHAN_LOOP, struct chan_give_way, 0, "end this stream: its client has many, and another found no room")
CHAN_MSG(LEAVING, CHAN_LOOP, CHAN_MASTER, struct chan_leaving, 0, "no viewers for long: may I go?")
CHAN_MSG(LEAVE, CHAN_MASTER, CHAN_LOOP, struct chan_nothing, 0, "nothing is on its way to you: go")
CHAN_MSG(WROTE, CHAN_WORKER | CHAN_MASTER, CHAN_MASTER | CHAN_LOOP, struct chan_wrote, 0, "somebody wrote: poll early; nothing where no loop is live")
CHAN_MSG(DRAIN, CHAN_MASTER, CHAN_WORKER | CHAN_LOOP, struct chan_drain, 0, "end your streams within that time; take no new ones")
CHAN_MSG(SUCCEEDED, CHAN_MASTER, CHAN_LOOP, struct chan_nothing, 0, "while draining: a successor serves, viewers may come back at once")
CHAN_MSG(STOP, CHAN_MASTER, CHAN_WORKER, struct chan_nothing, 0, "finish what you have and exit")
