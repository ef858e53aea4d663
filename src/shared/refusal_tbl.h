/* SPDX-License-Identifier: ISC */
/*
 * Why a request can't be served for now, one row:
 * REFUSAL(NAME, name, what an operator reads, what a viewer is told)
 *
 * The row makes enum refusal_reason, the counter seatcast_refused_<name>_total
 * and the text of the answer.
 */
REFUSAL(STREAMS, streams, "--max-streams reached", "too many viewers at the moment, please try again shortly")
REFUSAL(GROUPS, groups, "--max-groups reached", "too many blocks are being watched at the moment, please try again shortly")
REFUSAL(CLIENT, client, "one client has too much already (--max-streams-per-client, --max-groups-per-client)", "too many streams from this address, please close some and try again")
REFUSAL(DATABASE, database, "database away and nothing in memory", "the database is away, please try again shortly")
REFUSAL(DRAINING, draining, "draining", "the service is restarting, please try again shortly")
REFUSAL(OVERLOAD, overload, "a full channel, no memory, no process or no descriptor", "the service is overloaded, please try again shortly")
REFUSAL(CRASHING, crashing, "the group's loop crashes at its start", "this block can't be shown at the moment, please try again shortly")
