/* SPDX-License-Identifier: ISC */
/*
 * Every counter, one row: BOARD(name, KIND, UNIT, text)
 *
 * The row makes the field in the scoreboard, the line of /metrics and is checked
 * against the manual.  COUNTER only rises and survives its process; GAUGE is the
 * present value and ends with it; PRIVATE is a gauge for the processes alone.
 * The field counts in UNIT; /metrics tells it in the base unit, which with
 * _total for a counter ends the name: lag in MILLISECONDS is seatcast_lag_seconds.
 * Each process writes only its own slot.
 */
BOARD(viewers, GAUGE, NUMBER, "Streams attached to a loop now.")
BOARD(connections, GAUGE, NUMBER, "Connections a loop owns now: viewers, and snapshot requests not yet answered.")
BOARD(adopted, COUNTER, NUMBER, "Hand-overs that reached their loop.")
BOARD(lost, COUNTER, NUMBER, "Hand-overs that a loop could not take: out of descriptors or memory.")
BOARD(begun, GAUGE, NUMBER, "Number of the last hand-over whose answer the loop has begun.")
BOARD(streams, COUNTER, NUMBER, "Streams attached since the start.")
BOARD(snapshots, COUNTER, NUMBER, "Snapshots answered from memory.")
BOARD(resume_hits, COUNTER, NUMBER, "Streams that went on from their Last-Event-ID.")
BOARD(resume_misses, COUNTER, NUMBER, "Streams whose Last-Event-ID was of another loop or not understood.")
BOARD(polls, COUNTER, NUMBER, "Good polls of the database.")
BOARD(polls_failed, COUNTER, NUMBER, "Polls that failed or got no answer in time.")
BOARD(polls_again, COUNTER, NUMBER, "Polls asked again because a table was rewritten, or a standby's replay came, under them.")
BOARD(polls_behind, COUNTER, NUMBER, "Polls that met a standby behind the server polled before.")
BOARD(reconciles, COUNTER, NUMBER, "Good polls that compared the whole block.")
BOARD(late_seats, COUNTER, NUMBER, "Seats that only a reconcile found changed.")
BOARD(seats_changed, COUNTER, NUMBER, "Changes of a seat's status.")
BOARD(expiries, COUNTER, NUMBER, "Holds that ended by their time alone.")
BOARD(events, COUNTER, NUMBER, "Events handed to viewers' connections.")
BOARD(sent, COUNTER, BYTES, "Bytes written to viewers' connections.")
BOARD(frames, COUNTER, NUMBER, "Frames encoded; each is shared by all viewers that need it.")
BOARD(conflations, COUNTER, NUMBER, "Viewers given one frame for several versions because they read slowly.")
BOARD(stalls, COUNTER, NUMBER, "Viewers closed because they accepted nothing for the stall timeout.")
BOARD(behind, GAUGE, NUMBER, "Viewers in the middle of a frame: they read slowly, or not.")
BOARD(lag, GAUGE, MILLISECONDS, "For how long the slowest viewer has been behind.")
BOARD(version, GAUGE, NUMBER, "Version of the block's seats.")
BOARD(seats, GAUGE, NUMBER, "Seats of the block.")
BOARD(stale, GAUGE, NUMBER, "1 while the database can't be polled.")
BOARD(last_poll_timestamp, GAUGE, MILLISECONDS, "Database time of the last good poll.")
BOARD(last_poll_mono, PRIVATE, MILLISECONDS, "Monotonic time of the last good poll.")
BOARD(alive_mono, PRIVATE, MILLISECONDS, "Monotonic time at which the process last went round its event loop.")
BOARD(database_away, PRIVATE, NUMBER, "Connections to the database that are lost now.")
BOARD(database_connects, COUNTER, NUMBER, "Database connections opened.")
BOARD(database_losses, COUNTER, NUMBER, "Times a connection to the database was lost; attempts to get it back are not counted.")
BOARD(database_errors, COUNTER, NUMBER, "Requests that the database answered with an error of the site's making; the log says which.")
BOARD(requests, COUNTER, NUMBER, "Requests read by workers.")
BOARD(requests_bad, COUNTER, NUMBER, "Connections to the FastCGI socket that brought no good request.")
BOARD(handovers, COUNTER, NUMBER, "Requests handed over to a loop.")
BOARD(seats_held, COUNTER, NUMBER, "Seats held or held anew by requests to this service.")
BOARD(seats_released, COUNTER, NUMBER, "Seats given back by requests to this service.")
BOARD(seats_sold, COUNTER, NUMBER, "Seats bought by requests to this service.")
BOARD(conflicts, COUNTER, NUMBER, "Requests answered 409 because of the state of a seat.")
BOARD(busy, COUNTER, MICROSECONDS, "Time workers spent on requests.")
#define REFUSAL(NAME, name, why, text)	BOARD(refused_##name, COUNTER, NUMBER, "Requests refused: " why ".")
#include "shared/refusal_tbl.h"
#undef REFUSAL
BOARD(log_lines_lost, COUNTER, NUMBER, "Lines of the log that neither standard error nor syslog took in time.")
BOARD(without_own_loop, COUNTER, NUMBER, "Hand-overs for a block that found no room for a loop of its own, and went to its match's.")
BOARD(gave_way, COUNTER, NUMBER, "Loops ended because their only client had many, and another client found no room.")
BOARD(streams_gave_way, COUNTER, NUMBER, "Streams ended because their client had many, and another client found no room.")
BOARD(worker_restarts, COUNTER, NUMBER, "Workers replaced after they ended unexpectedly.")
BOARD(loop_crashes, COUNTER, NUMBER, "Loops that ended unexpectedly.")
