-- SPDX-License-Identifier: ISC
-- changes_updated_at.sql: the polls' functions by updated_at, for a database whose allocations can have that column
-- but no changed_xid. Replaces the exact ones; changes_exact.sql brings them back.
--
--     psql -v ON_ERROR_STOP=1 -f sql/changes_updated_at.sql
--
-- It can be run without install.sql: of allocations it needs match_id, seat_id, status, hold_expires_at and updated_at (with an
-- index, and set by whoever writes the row), of the others what port.sql reads, and it alters no table.
--
-- The cursor is the start of the last poll's transaction, in UTC: never after its snapshot. changes() returns the rows with
-- updated_at > cursor - seatcast.overlap (ALTER DATABASE d SET seatcast.overlap = '5 s'; default 2 s).
-- What it can miss, and the next reconcile (10 s) then brings:
--   - a commit that comes later than the overlap after updated_at was set: a long transaction, two-phase commit, and
--     all the more so where updated_at is CURRENT_TIMESTAMP, which is the start of the writer's transaction;
--   - a writer that forgets updated_at, whose clock is behind (an application's clock, not the database's), or who writes
--     another zone's time; the hour that a zone with summer time has twice (UTC has none: prefer it);
--   - the database's clock stepping back further than the overlap between two writes;
--   - on a hot standby, a replay that lags by more than the overlap; on any server, deleted rows.
-- Seats found so are counted in seatcast_late_seats_total: if it grows, raise the overlap. A row with updated_at NULL or in
-- the future comes with every poll and is dropped by the caller.

\set ON_ERROR_STOP on
\set QUIET on
BEGIN;
SET LOCAL client_min_messages = warning;
\ir site.sql
\ir schema.sql

DO $$
DECLARE
    tab  regclass := seatcast.site_table('allocations');
    name text := seatcast.shown(tab);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = tab AND attname = 'updated_at' AND NOT attisdropped) THEN
        RAISE EXCEPTION 'seatcast: % has no column updated_at', name
            USING HINT = format('ALTER TABLE %s ADD COLUMN updated_at timestamp DEFAULT CURRENT_TIMESTAMP, and have each update set it.', name);
    END IF;
    IF NOT seatcast.has_index(tab, '{updated_at}', 'order') THEN
        RAISE WARNING 'seatcast: % has no index on updated_at: every poll reads the whole table', name
            USING HINT = format('CREATE INDEX CONCURRENTLY idx_allocations_updated_at ON %s (updated_at);', name);
    END IF;
    IF NOT seatcast.has_index(tab, '{match_id,seat_id}', 'any') THEN
        RAISE WARNING 'seatcast: % has no index on (match_id, seat_id): every seat costs a scan of the table', name
            USING HINT = format('CREATE UNIQUE INDEX CONCURRENTLY ON %s (match_id, seat_id);', name);
    END IF;
END $$;

\ir allocation.sql
\ir port.sql

-- One statement each, internal and inlined, as in changes_exact.sql.

CREATE OR REPLACE FUNCTION seatcast.block_state(match_id bigint, block_id bigint)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT s.id::bigint, coalesce(n.status, 'AVAILABLE'), n.hold_expires_at
      FROM site.seats s
      LEFT JOIN LATERAL seatcast.status_of($1, s.id) AS n ON true
     WHERE s.block_id = $2
$$;

CREATE OR REPLACE FUNCTION seatcast.match_state(match_id bigint)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT s.block_id::bigint, s.id::bigint, coalesce(a.status::text, 'AVAILABLE'),
           CASE WHEN a.status::text = 'HOLD' THEN seatcast.as_instant(a.hold_expires_at) END
      FROM site.seats s
      LEFT JOIN site.allocations a ON a.match_id = $1 AND a.seat_id = s.id
$$;

-- The seats of a match with updated_at later than `since`, or none. updated_at <= infinity tells nothing but the planner: without
-- knowing the values it takes a range with two ends for narrow and uses the index, and one with an open end for a third of the
-- table. Which block a seat is in, only `seats` says.
CREATE OR REPLACE FUNCTION seatcast.match_stamped(match_id bigint, since timestamptz)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT s.block_id::bigint, c.seat_id::bigint, coalesce(c.status, 'AVAILABLE'), CASE WHEN c.status = 'HOLD' THEN seatcast.as_instant(c.hold_expires_at) END
      FROM (SELECT a.seat_id, a.status::text AS status, a.hold_expires_at FROM site.allocations a
             WHERE a.match_id = $1 AND a.updated_at > seatcast.as_stored($2, (SELECT x.updated_at FROM site.allocations x LIMIT 0)) AND a.updated_at <= 'infinity'
            UNION ALL
            SELECT a.seat_id, a.status::text, a.hold_expires_at FROM site.allocations a
             WHERE a.match_id = $1 AND a.updated_at IS NULL) AS c
     CROSS JOIN LATERAL (SELECT z.block_id FROM site.seats z WHERE z.id = c.seat_id LIMIT 1) AS s
$$;

-- Without the unique index a seat may have several rows, and the most taken one counts, whichever was written (changes_exact.sql).
-- With it the row that was written is the seat's row, and is not looked for again among all the dead versions of it that a
-- transaction which stays open keeps.
DO $$
BEGIN
    IF NOT seatcast.has_index(seatcast.site_table('allocations'), '{match_id,seat_id}', 'unique') THEN
        CREATE OR REPLACE FUNCTION seatcast.match_state(match_id bigint)
        RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $sql$
            SELECT s.block_id::bigint, s.id::bigint, coalesce(n.status, 'AVAILABLE'), n.hold_expires_at
              FROM site.seats s
              LEFT JOIN LATERAL seatcast.status_of($1, s.id) AS n ON true
        $sql$;
        CREATE OR REPLACE FUNCTION seatcast.match_stamped(match_id bigint, since timestamptz)
        RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $sql$
            WITH changed AS (
                SELECT a.seat_id FROM site.allocations a
                 WHERE a.match_id = $1 AND a.updated_at > seatcast.as_stored($2, (SELECT x.updated_at FROM site.allocations x LIMIT 0)) AND a.updated_at <= 'infinity'
                UNION
                SELECT a.seat_id FROM site.allocations a
                 WHERE a.match_id = $1 AND a.updated_at IS NULL
            )
            SELECT s.block_id::bigint, c.seat_id::bigint, n.status, n.hold_expires_at
              FROM changed c
             CROSS JOIN LATERAL (SELECT z.block_id FROM site.seats z WHERE z.id = c.seat_id LIMIT 1) AS s
             CROSS JOIN LATERAL seatcast.status_of($1, c.seat_id) AS n
        $sql$;
    END IF;
END $$;

-- When the last poll was, less the overlap, and the next cursor. since NULL: all is to be told. Internal.
CREATE OR REPLACE FUNCTION seatcast.last_poll(cursor text, OUT since timestamptz, OUT next_cursor text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    wal pg_lsn := CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END;
BEGIN
    next_cursor := to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '@' || coalesce(wal::text, '0/0');
    IF $1 ~ '^[0-9]{4,6}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}(@[0-9A-F]{1,8}/[0-9A-F]{1,8})?$' THEN
        IF nullif(split_part($1, '@', 2), '')::pg_lsn > wal AND pg_is_in_recovery() THEN
            RAISE EXCEPTION 'this server is a standby that is behind the one polled before: replayed %, wanted %', wal, split_part($1, '@', 2)
                USING ERRCODE = 'SC001';
        END IF;
        since := split_part($1, '@', 1)::timestamp AT TIME ZONE 'UTC';
        IF since > now() THEN
            since := NULL;
        END IF;
        since := since - coalesce(nullif(current_setting('seatcast.overlap', true), ''), '2 s')::interval;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION seatcast.snapshot(match_id bigint, block_id bigint)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT b.*, NULL::text, NULL::timestamptz FROM seatcast.block_state($1, $2) AS b ORDER BY b.seat_id;
    as_of := seatcast.read_at('site.seats', 'site.allocations');
    next_cursor := (seatcast.last_poll(NULL)).next_cursor;
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    here record := seatcast.last_poll($3);
BEGIN
    IF here.since IS NULL THEN
        RETURN QUERY SELECT w.* FROM seatcast.snapshot($1, $2) AS w;
        RETURN;
    END IF;
    RETURN QUERY    -- the rows with updated_at > since
    SELECT w.seat_id, w.status, w.hold_expires_at, NULL::text, NULL::timestamptz
      FROM seatcast.match_stamped($1, here.since) AS w WHERE w.block_id = $2 ORDER BY w.seat_id;
    as_of := seatcast.read_at('site.allocations', 'site.seats');
    next_cursor := here.next_cursor;
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.match_snapshot(match_id bigint)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT m.*, NULL::text, NULL::timestamptz FROM seatcast.match_state($1) AS m ORDER BY m.block_id, m.seat_id;
    as_of := seatcast.read_at('site.seats', 'site.allocations');
    next_cursor := (seatcast.last_poll(NULL)).next_cursor;
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.match_changes(match_id bigint, cursor text)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    here record := seatcast.last_poll($2);
BEGIN
    IF here.since IS NULL THEN
        RETURN QUERY SELECT w.* FROM seatcast.match_snapshot($1) AS w;
        RETURN;
    END IF;
    RETURN QUERY SELECT w.*, NULL::text, NULL::timestamptz FROM seatcast.match_stamped($1, here.since) AS w ORDER BY w.block_id, w.seat_id;
    as_of := seatcast.read_at('site.allocations', 'site.seats');
    next_cursor := here.next_cursor;
    RETURN NEXT;
END $$;

\ir checkup.sql
\ir bind.sql
\ir roles.sql
COMMIT;
