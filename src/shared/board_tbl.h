/*
 * Every counter, one row: BOARD(name, KIND, text)
 *
 * The row makes the field in the scoreboard, the line of /metrics
 * (seatcast_<name>, with _total for a COUNTER) and is checked against the
 * manual.  COUNTER only rises and survives its process; GAUGE is the present
 * value and ends with it.  Each process writes only its own slot.
 */
BOARD(viewers, GAUGE, "Streams attached to a loop now.")
BOARD(connections, GAUGE, "Connections a loop owns now: viewers, and snapshot requests not yet answered.")
BOARD(adopted, COUNTER, "Hand-overs that reached their loop.")
BOARD(begun, GAUGE, "Number of the last hand-over whose answer the loop has begun.")
BOARD(streams, COUNTER, "Streams attached since the start.")
BOARD(snapshots, COUNTER, "Snapshots answered from memory.")
BOARD(resume_hits, COUNTER, "Streams that went on from their Last-Event-ID.")
BOARD(resume_misses, COUNTER, "Streams whose Last-Event-ID was of another loop or not understood.")
BOARD(polls, COUNTER, "Good polls of the database.")
BOARD(polls_failed, COUNTER, "Polls that failed or got no answer in time.")
BOARD(reconciles, COUNTER, "Good polls that compared the whole block.")
BOARD(late_seats, COUNTER, "Seats that only a reconcile found changed.")
BOARD(seats_changed, COUNTER, "Changes of a seat's status.")
BOARD(expiries, COUNTER, "Holds that ended by their time alone.")
BOARD(events, COUNTER, "Events handed to viewers' connections.")
BOARD(bytes, COUNTER, "Bytes written to viewers' connections.")
BOARD(frames, COUNTER, "Frames encoded; each is shared by all viewers that need it.")
BOARD(conflations, COUNTER, "Viewers given one frame for several versions because they read slowly.")
BOARD(stalls, COUNTER, "Viewers closed because they accepted nothing for the stall timeout.")
BOARD(behind, GAUGE, "Viewers in the middle of a frame: they read slowly, or not.")
BOARD(lag_ms, GAUGE, "For how long the slowest viewer has been behind, milliseconds.")
BOARD(version, GAUGE, "Version of the block's seats.")
BOARD(seats, GAUGE, "Seats of the block.")
BOARD(stale, GAUGE, "1 while the database can't be polled.")
BOARD(last_poll_ms, GAUGE, "Database time of the last good poll, Unix milliseconds.")
BOARD(last_poll_mono_ms, GAUGE, "Monotonic time of the last good poll, milliseconds.")
BOARD(alive_mono_ms, GAUGE, "Monotonic time at which the process last went round its event loop, milliseconds.")
BOARD(database_connects, COUNTER, "Database connections opened.")
BOARD(database_losses, COUNTER, "Database connections lost or given up.")
BOARD(requests, COUNTER, "Requests read by workers.")
BOARD(requests_bad, COUNTER, "Connections to the FastCGI socket that brought no good request.")
BOARD(handovers, COUNTER, "Requests handed over to a loop.")
BOARD(busy_us, COUNTER, "Microseconds workers spent on requests.")
#define REFUSAL(NAME, name, why, text)	BOARD(refused_##name, COUNTER, "Requests refused: " why ".")
#include "shared/refusal_tbl.h"
#undef REFUSAL
BOARD(worker_restarts, COUNTER, "Workers replaced after they ended unexpectedly.")
BOARD(loop_crashes, COUNTER, "Loops that ended unexpectedly.")
