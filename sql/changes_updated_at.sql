-- changes_updated_at.sql: snapshot() and changes() by updated_at, for a database whose allocations can have that column
-- but no changed_xid. Replaces the exact pair; changes_exact.sql brings it back.
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
\ir schema.sql

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('allocations') AND attname = 'updated_at' AND NOT attisdropped) THEN
        RAISE EXCEPTION 'seatcast: allocations has no column updated_at'
            USING HINT = 'ALTER TABLE allocations ADD COLUMN updated_at timestamp DEFAULT CURRENT_TIMESTAMP, and have each update set it.';
    END IF;
    IF NOT seatcast.has_index('allocations', '{updated_at}', 'order') THEN
        RAISE WARNING 'seatcast: allocations has no index on updated_at: every poll reads the whole table'
            USING HINT = 'CREATE INDEX CONCURRENTLY idx_allocations_updated_at ON allocations (updated_at);';
    END IF;
    IF NOT seatcast.has_index('allocations', '{match_id,seat_id}', 'any') THEN
        RAISE WARNING 'seatcast: allocations has no index on (match_id, seat_id): every seat costs a scan of the table'
            USING HINT = 'CREATE UNIQUE INDEX CONCURRENTLY ON allocations (match_id, seat_id);';
    END IF;
END $$;

\ir port.sql

CREATE OR REPLACE FUNCTION seatcast.snapshot(match_id bigint, block_id bigint)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT s.id::bigint, coalesce(n.status, 'AVAILABLE'), n.hold_expires_at, NULL::text, NULL::timestamptz
      FROM seats s
      LEFT JOIN LATERAL seatcast.status_of($1, s.id) AS n ON true
     WHERE s.block_id = $2
    UNION ALL
    SELECT NULL, NULL, NULL, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), clock_timestamp()
     ORDER BY 1 NULLS LAST
$$;

-- updated_at <= infinity tells nothing but the planner: without knowing the values it takes a range with two ends for narrow and
-- uses the index, and one with an open end for a third of the table.
CREATE OR REPLACE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH last AS MATERIALIZED (
        SELECT CASE WHEN $3 ~ '^[0-9]{4,6}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}$' THEN $3::timestamp AT TIME ZONE 'UTC' END AS poll
    ), since AS MATERIALIZED (
        SELECT seatcast.as_stored(l.poll - coalesce(nullif(current_setting('seatcast.overlap', true), ''), '2 s')::interval,
                                  (SELECT x.updated_at FROM allocations x LIMIT 0)) AS at
          FROM last l WHERE l.poll <= now()
    ), changed AS (
        SELECT a.seat_id FROM allocations a
         WHERE a.match_id = $1 AND a.updated_at > (SELECT f.at FROM since f) AND a.updated_at <= 'infinity'
        UNION
        SELECT a.seat_id FROM allocations a
         WHERE a.match_id = $1 AND a.updated_at IS NULL AND (SELECT f.at FROM since f) IS NOT NULL
    )
    SELECT c.seat_id::bigint, n.status, n.hold_expires_at, NULL::text, NULL::timestamptz
      FROM changed c
     CROSS JOIN LATERAL seatcast.status_of($1, c.seat_id) AS n
     WHERE (SELECT s.block_id FROM seats s WHERE s.id = c.seat_id) = $2
    UNION ALL
    SELECT w.seat_id, w.status, w.hold_expires_at, NULL, NULL
      FROM seatcast.snapshot($1, $2) AS w
     WHERE w.seat_id IS NOT NULL AND (SELECT f.at FROM since f) IS NULL
    UNION ALL
    SELECT NULL, NULL, NULL, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), clock_timestamp()
     ORDER BY 1 NULLS LAST
$$;

\ir checkup.sql
\ir roles.sql
COMMIT;
