/* SPDX-License-Identifier: ISC */
/*
 * Every option, one row: OPT(field, name, TYPE, default, min, max, metavar, text)
 *
 * The row makes the field of struct opts, the flag --name, the variable
 * SEATCAST_NAME, the bounds and the line of --help; the manual is checked
 * against it.  Durations are kept in milliseconds; min and max are in the
 * type's unit.  TYPE: STRING, ORIGINS, PREFIX, DURATION, NUMBER, MODE, LEVEL, TARGET, FLAG.
 * Values of the first three have bounds on their length.
 */
OPT(listen, "listen", STRING, NULL, 1, 255, "PATH|[HOST]:PORT", "serve FastCGI here instead of on descriptor 0")
OPT(listen_mode, "listen-mode", MODE, 0660, 0, 0777, "MODE", "permissions of the unix socket")
OPT(database, "database", STRING, NULL, 0, 4096, "CONNINFO", "PostgreSQL conninfo or URI, several hosts allowed; without it libpq's own environment counts")
OPT(poll_interval_ms, "poll-interval", DURATION, 1000, 100, 60000, "DURATION", "how often a block's changes are asked for")
OPT(reconcile_interval_ms, "reconcile-interval", DURATION, 10000, 100, 3600000, "DURATION", "how often the whole block is compared with memory")
OPT(workers, "workers", NUMBER, 4, 1, 256, "N", "accepting processes")
OPT(control, "control", STRING, NULL, 1, 103, "PATH", "also take workers that join here")
OPT(control_user, "control-user", STRING, NULL, 1, 255, "LIST", "users besides our own and root that may join at --control, separated by commas")
OPT(join, "join", STRING, NULL, 1, 107, "PATH", "be one worker of the master that listens at PATH")
OPT(start, "start", FLAG, 0, 0, 1, NULL, "with --join: start the master if there is none")
OPT(max_groups, "max-groups", NUMBER, 64, 1, 4096, "N", "poll loops at once; each holds one database connection")
OPT(max_streams, "max-streams", NUMBER, 10000, 1, 1000000, "N", "streams at once")
OPT(linger_ms, "linger", DURATION, 30000, 0, 86400000, "DURATION", "how long a loop without viewers stays")
OPT(heartbeat_ms, "heartbeat", DURATION, 15000, 10, 3600000, "DURATION", "silence before a beat")
OPT(stall_timeout_ms, "stall-timeout", DURATION, 60000, 10, 86400000, "DURATION", "a viewer that accepts nothing is closed")
OPT(hold_duration_ms, "hold-duration", DURATION, 300000, 10, 86400000, "DURATION", "how long a hold lasts")
OPT(hold_lifetime_ms, "hold-lifetime", DURATION, 0, 0, 86400000, "DURATION", "how long renewals may carry one hold in all; 0: no end")
OPT(max_holds, "max-holds", NUMBER, 0, 0, 1000000, "N", "seats that one user may hold in a match at once; 0: any number")
OPT(max_seats, "max-seats", NUMBER, 100, 1, 1000, "N", "seats in one request to hold, release or confirm")
OPT(user_param, "user-param", STRING, NULL, 1, 127, "NAME", "FastCGI parameter with the id of who is logged in; the body's userId is then not believed")
OPT(client_param, "client-param", STRING, "REMOTE_ADDR", 1, 127, "NAME", "FastCGI parameter that tells clients apart")
OPT(max_streams_per_client, "max-streams-per-client", NUMBER, 0, 0, 1000000, "N", "streams of one client at once; 0: any number")
OPT(max_groups_per_client, "max-groups-per-client", NUMBER, 0, 0, 4096, "N", "groups that one client may make live at once; 0: any number")
OPT(allow_origin, "allow-origin", ORIGINS, NULL, 1, 4096, "LIST", "origins whose pages may use this service (CORS), separated by commas")
OPT(base_path, "base-path", PREFIX, NULL, 1, 255, "PATH", "what stands before /api, /healthz and the others where a site mounts it")
OPT(drain_timeout_ms, "drain-timeout", DURATION, 10000, 0, 3600000, "DURATION", "SIGTERM: over how long streams are ended")
OPT(log_level, "log-level", LEVEL, LOG_LEVEL_INFO, 0, 0, "LEVEL", "error, warn, info or debug")
OPT(log_target, "log-target", TARGET, OPTS_STDERR, 0, 0, "stderr|syslog", "where the log goes")
OPT(unconfined, "unconfined", FLAG, 0, 0, 1, NULL, "for debuggers and the like: without seccomp, Landlock and what goes with them")
OPT(check, "check", FLAG, 0, 0, 1, NULL, "test database, schema and privileges, say what is wrong, exit 0 or 1")
