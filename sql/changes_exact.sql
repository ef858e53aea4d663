-- changes_exact.sql: snapshot() and changes(), exact. Part of install.sql; alone it undoes changes_updated_at.sql:
--
--     psql -v ON_ERROR_STOP=1 -f sql/changes_exact.sql
--
-- Why no commit is missed. pg_snapshot_xmin(S) is the lowest transaction id still running when snapshot S was taken: all
-- below it had ended ("Transaction ID and Snapshot Information" in the manual's chapter on functions). A row version that
-- S did not see was written by a transaction that had not ended then, or had no id yet; so its id, which the trigger of
-- tracking.sql put into changed_xid, is >= xmin(S). The next poll asks for changed_xid >= xmin(S) and so contains it
-- from the moment it is visible, however late the commit (two-phase, savepoints, a standby's replay included). What the
-- poll knew already comes again and is dropped by the caller. No clock is involved.
-- It needs rows and cursor of ONE snapshot: both come from one query, and STABLE makes that query use the caller's snapshot.
-- A row deleted, or moved to another seat, leaves nothing to find: that is what the reconcile (snapshot) is for.
--
-- A cursor that is no number (another variant's), or above xmin, is not of this server's past: a failover, or a standby
-- that is behind the one polled before. The answer is then the whole block, as for NULL and ''.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?seatcast_installing}
\else
BEGIN;
SET LOCAL client_min_messages = warning;
\ir schema.sql
\endif

-- One row per seat, and the mark: seat_id NULL, next_cursor, as_of. The seats come from `seats` and their status by match
-- and seat, so that a wrong block_id in allocations cannot hide a seat for longer than one reconcile.
CREATE OR REPLACE FUNCTION seatcast.snapshot(match_id bigint, block_id bigint)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT s.id::bigint, coalesce(n.status, 'AVAILABLE'), n.hold_expires_at, NULL::text, NULL::timestamptz
      FROM seats s
      LEFT JOIN LATERAL seatcast.status_of($1, s.id) AS n ON true
     WHERE s.block_id = $2
    UNION ALL
    SELECT NULL, NULL, NULL, pg_snapshot_xmin(pg_current_snapshot())::text, clock_timestamp()
     ORDER BY 1 NULLS LAST
$$;

-- The seats written since the cursor. The two halves of `changed` are one index range each. The seat's block is looked up
-- seat by seat, in a subquery the planner cannot turn into a join: the work stays proportional to what changed.
CREATE OR REPLACE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH here AS MATERIALIZED (
        SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin
    ), since AS MATERIALIZED (
        SELECT CASE WHEN $3 ~ '^[0-9]{1,19}$' THEN CASE WHEN $3::xid8 <= h.xmin THEN $3::xid8 END END AS xid FROM here h
    ), changed AS (
        SELECT a.seat_id FROM allocations a
         WHERE a.match_id = $1 AND a.block_id = $2 AND a.changed_xid >= (SELECT f.xid FROM since f)
        UNION
        SELECT a.seat_id FROM allocations a
         WHERE a.match_id = $1 AND a.block_id = $2 AND a.changed_xid IS NULL AND (SELECT f.xid FROM since f) IS NOT NULL
    )
    SELECT c.seat_id::bigint, n.status, n.hold_expires_at, NULL::text, NULL::timestamptz
      FROM changed c
     CROSS JOIN LATERAL seatcast.status_of($1, c.seat_id) AS n
     WHERE (SELECT s.block_id FROM seats s WHERE s.id = c.seat_id) = $2
    UNION ALL
    SELECT w.seat_id, w.status, w.hold_expires_at, NULL, NULL
      FROM seatcast.snapshot($1, $2) AS w
     WHERE w.seat_id IS NOT NULL AND (SELECT f.xid FROM since f) IS NULL
    UNION ALL
    SELECT NULL, NULL, NULL, h.xmin::text, clock_timestamp() FROM here h
     ORDER BY 1 NULLS LAST
$$;

\if :{?seatcast_installing}
\else
\ir roles.sql
COMMIT;
\endif
