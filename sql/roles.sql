-- SPDX-License-Identifier: ISC
-- roles.sql: the two roles seatcast connects as, and all that they may do. Part of install.sql and of changes_*.sql.
--
-- Roles belong to the cluster, functions to a database: two databases may be installed at the same moment and meet here.
-- "Already there" is success, and "concurrently updated" (XX000, what PostgreSQL says when two transactions write one row
-- of a shared catalog) is tried again. No passwords: give them with \password, or let pg_hba.conf say peer.
-- Settings are given once, so that what you change later (ALTER ROLE seatcast_reader SET ...) stays.

DO $$
DECLARE
    tries int := 0;
    r     record;
BEGIN
    LOOP
        BEGIN
            FOR r IN SELECT name FROM unnest('{seatcast_reader,seatcast_writer}'::text[]) AS want (name)
                      WHERE to_regrole(name) IS NULL LOOP
                EXECUTE format('CREATE ROLE %I LOGIN', r.name);
            END LOOP;
            IF NOT pg_has_role('seatcast_writer', 'seatcast_reader', 'USAGE') THEN
                GRANT seatcast_reader TO seatcast_writer;
            END IF;
            FOR r IN SELECT want.* FROM (VALUES
                -- A poll takes a millisecond and comes once a second: one that takes 4 s is better given up and begun anew.
                -- Below the 5 s after which seatcast gives up the connection, so that the log says what was slow.
                ('seatcast_reader', 'statement_timeout', '4s'),
                ('seatcast_writer', 'statement_timeout', '4s'),
                -- Reads wait for no lock but an ALTER TABLE's or TRUNCATE's; a buyer who waits 2 s for a seat has lost it.
                ('seatcast_reader', 'lock_timeout', '2s'),
                ('seatcast_writer', 'lock_timeout', '2s'),
                -- seatcast never leaves a transaction open; a program that hangs in one must not hold locks, or vacuum back.
                ('seatcast_reader', 'idle_in_transaction_session_timeout', '10s'),
                ('seatcast_writer', 'idle_in_transaction_session_timeout', '10s'),
                -- A second lock on the door: polls write nothing.
                ('seatcast_reader', 'default_transaction_read_only', 'on'),
                -- Whatever the database's defaults say: a statement is a transaction here, and a poll that is right with one snapshot
                -- must not fail for what others do (serializable); nor is a connection that waits for the next second idle.
                ('seatcast_reader', 'default_transaction_isolation', 'read committed'),
                ('seatcast_writer', 'default_transaction_isolation', 'read committed'),
                ('seatcast_reader', 'idle_session_timeout', '0'),
                ('seatcast_writer', 'idle_session_timeout', '0'),
                -- Rows that a policy hides from the functions' owner would be seats that look free: rather an error.
                ('seatcast_reader', 'row_security', 'off'),
                ('seatcast_writer', 'row_security', 'off'),
                -- Compiling costs tens of milliseconds and pays only in queries a hundred times larger than ours.
                ('seatcast_reader', 'jit', 'off'),
                ('seatcast_writer', 'jit', 'off')) AS want (role, setting, value)
                WHERE EXISTS (SELECT FROM pg_settings e WHERE e.name = want.setting)        -- idle_session_timeout is of PostgreSQL 14
                  AND NOT EXISTS (SELECT FROM pg_db_role_setting g, unnest(g.setconfig) AS have (line)
                                   WHERE g.setdatabase = 0 AND g.setrole = to_regrole(want.role)
                                     AND have.line LIKE want.setting || '=%') LOOP
                EXECUTE format('ALTER ROLE %I SET %I = %L', r.role, r.setting, r.value);
            END LOOP;
            FOR r IN SELECT name FROM unnest('{seatcast_reader,seatcast_writer}'::text[]) AS want (name)
                      WHERE NOT has_database_privilege(name, current_database(), 'CONNECT') LOOP
                EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), r.name);
            END LOOP;
            EXIT;
        EXCEPTION
            WHEN duplicate_object OR unique_violation OR internal_error THEN
                tries := tries + 1;
                IF tries > 20 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.05 * tries);
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'seatcast: % may not create or alter the roles seatcast_reader and seatcast_writer: %', current_user, SQLERRM
                    USING ERRCODE = 'insufficient_privilege',
                          HINT = 'Run this file as a superuser or as a role with CREATEROLE (since PostgreSQL 16: and ADMIN OPTION on both roles).';
        END;
    END LOOP;
END $$;

REVOKE ALL ON SCHEMA seatcast FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA seatcast FROM PUBLIC;
GRANT USAGE ON SCHEMA seatcast TO seatcast_reader, seatcast_writer;
GRANT EXECUTE ON FUNCTION
    seatcast.snapshot(bigint, bigint),
    seatcast.changes(bigint, bigint, text),
    seatcast.match_snapshot(bigint),
    seatcast.match_changes(bigint, text),
    seatcast.block_exists(bigint, bigint),
    seatcast.blocks_exist(bigint, bigint[]),
    seatcast.matches(),
    seatcast.stadium(),
    seatcast.areas(),
    seatcast.sections(bigint),
    seatcast.blocks(bigint),
    seatcast.block_seats(bigint)
TO seatcast_reader, seatcast_writer;
GRANT EXECUTE ON FUNCTION
    seatcast.hold_seats(bigint, bigint, bigint[], interval, integer, interval),
    seatcast.release_seats(bigint, bigint, bigint[]),
    seatcast.confirm_seats(bigint, bigint, bigint[]),
    seatcast.hold(bigint, bigint, bigint, interval),
    seatcast.release(bigint, bigint, bigint),
    seatcast.confirm(bigint, bigint, bigint[])
TO seatcast_writer;
-- Not part of the port: absent where a site has dropped it, or where only changes_*.sql was run.
DO $$ BEGIN
    IF to_regprocedure('seatcast.checkup()') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION seatcast.checkup() TO seatcast_reader, seatcast_writer;
        GRANT EXECUTE ON FUNCTION seatcast.trial(boolean) TO seatcast_writer;
    END IF;
END $$;
