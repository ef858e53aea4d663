-- SPDX-License-Identifier: ISC
-- changes_exact.sql: the polls' functions, exact. Part of install.sql; alone it undoes changes_updated_at.sql:
--
--     psql -v ON_ERROR_STOP=1 -f sql/changes_exact.sql
--
-- Why no commit is missed. The cursor is the snapshot S of a poll, in two pieces: the ids of the transactions that were
-- running when S was taken ("Transaction ID and Snapshot Information" in the manual's chapter on functions), and the first
-- id that had not been given out. A row version that S did not see was written by one of these or by a later one; the
-- trigger of track.sql put the writer's id into changed_xid before anybody could see the row. So the next poll asks for
-- changed_xid = one of those that were running, or >= the first later one, and has each row from the moment it is visible,
-- however late the commit (two-phase, savepoints). All other visible rows S saw already. No clock is involved.
--   - It needs rows and cursor of ONE snapshot. The functions are STABLE: all their queries run with the snapshot of the
--     statement that calls them (SPI runs those of a STABLE PL/pgSQL function read-only, with the active snapshot), and
--     pg_current_snapshot() is that snapshot too.
--   - A table that was rewritten while the poll waited for its lock is empty to S. seatcast.read_at() (schema.sql) makes
--     that an error after the rows have been read, when the locks are held; the poll fails and the cursor stays.
--   - A hot standby does not tell which ids were running. There the first piece is empty, and the second is the lowest id
--     that was (xmin): more rows come again, and are dropped by the caller, as what it knows already.
--   - If the snapshot is the very one of the cursor there is nothing to ask the tables for.
-- A row deleted, or moved to another seat, leaves nothing to find: that is what the reconcile (snapshot) is for.
--
-- A transaction that stays open for an hour is one id more in the cursor: polls still read what was written since the last
-- one, and not what was written since the hour began.
--
-- A cursor that is no snapshot (another variant's), or one from the future, is not of this server's past: a failover. The
-- answer is then the whole block, as for NULL and ''. On a standby it may be one that is behind the server polled before
-- (a balancer's address): its answer would be older than what the caller has, so it is refused (SC001).
-- The cursor's end is a position in the WAL, for that alone. It is taken after the snapshot here as there: a standby that
-- replays just the missing commit in the microseconds between is taken for good enough. changes() is right even then, as
-- rows that S saw do not come again; only a reconcile in that moment could show a seat as it was a moment ago.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?seatcast_installing}
\else
BEGIN;
SET LOCAL client_min_messages = warning;
\ir site.sql
\ir schema.sql
\endif

-- One statement each, internal and inlined, hence neither SECURITY DEFINER nor SET.

-- All seats of a block. They come from `seats` and their status by match and seat, so that a wrong block_id in allocations
-- cannot hide a seat for longer than one reconcile.
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

-- What was written in a block by a transaction that is one of `running`, or not below `since`: ranges of one index, and the
-- rows whose changed_xid nobody has set. OFFSET 0 and the ends of each range tell nothing but the planner: without the values it
-- takes a range with two ends for narrow and uses the index, and one with an open end for a third of the table.
CREATE OR REPLACE FUNCTION seatcast.block_written(match_id bigint, block_id bigint, since xid8, running xid8[])
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT w.seat_id::bigint, coalesce(w.status::text, 'AVAILABLE'),
           CASE WHEN w.status::text = 'HOLD' THEN seatcast.as_instant(w.hold_expires_at) END
      FROM unnest($3 || $4, '18446744073709551615'::xid8 || $4) AS r (low, high)
     CROSS JOIN LATERAL (SELECT a.seat_id, a.status, a.hold_expires_at
                           FROM site.allocations a
                          WHERE a.match_id = $1 AND a.block_id = $2 AND a.changed_xid >= r.low AND a.changed_xid <= r.high OFFSET 0) AS w
    UNION ALL
    SELECT a.seat_id::bigint, coalesce(a.status::text, 'AVAILABLE'),
           CASE WHEN a.status::text = 'HOLD' THEN seatcast.as_instant(a.hold_expires_at) END
      FROM site.allocations a
     WHERE a.match_id = $1 AND a.block_id = $2 AND a.changed_xid IS NULL
$$;

CREATE OR REPLACE FUNCTION seatcast.match_written(match_id bigint, since xid8, running xid8[])
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $$
    SELECT w.block_id::bigint, w.seat_id::bigint, coalesce(w.status::text, 'AVAILABLE'),
           CASE WHEN w.status::text = 'HOLD' THEN seatcast.as_instant(w.hold_expires_at) END
      FROM unnest($2 || $3, '18446744073709551615'::xid8 || $3) AS r (low, high)
     CROSS JOIN LATERAL (SELECT a.block_id, a.seat_id, a.status, a.hold_expires_at
                           FROM site.allocations a
                          WHERE a.match_id = $1 AND a.changed_xid >= r.low AND a.changed_xid <= r.high OFFSET 0) AS w
    UNION ALL
    SELECT a.block_id::bigint, a.seat_id::bigint, coalesce(a.status::text, 'AVAILABLE'),
           CASE WHEN a.status::text = 'HOLD' THEN seatcast.as_instant(a.hold_expires_at) END
      FROM site.allocations a
     WHERE a.match_id = $1 AND a.changed_xid IS NULL
$$;

-- Without the unique index a seat may have several rows, and the most taken one counts, whichever was written: what the port
-- asks for is then the status of the seats that these find. With it the row that was written is the seat's row.
DO $$
BEGIN
    IF NOT seatcast.has_index(seatcast.site_table('allocations'), '{match_id,seat_id}', 'unique') THEN
        CREATE OR REPLACE FUNCTION seatcast.match_state(match_id bigint)
        RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $sql$
            SELECT s.block_id::bigint, s.id::bigint, coalesce(n.status, 'AVAILABLE'), n.hold_expires_at
              FROM site.seats s
              LEFT JOIN LATERAL seatcast.status_of($1, s.id) AS n ON true
        $sql$;
        CREATE OR REPLACE FUNCTION seatcast.block_written(match_id bigint, block_id bigint, since xid8, running xid8[])
        RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $sql$
            SELECT w.seat_id::bigint, n.status, n.hold_expires_at
              FROM (SELECT DISTINCT a.seat_id
                      FROM site.allocations a
                     WHERE a.match_id = $1 AND a.block_id = $2 AND (a.changed_xid >= $3 OR a.changed_xid = ANY ($4) OR a.changed_xid IS NULL)) AS w
             CROSS JOIN LATERAL seatcast.status_of($1, w.seat_id) AS n
        $sql$;
        CREATE OR REPLACE FUNCTION seatcast.match_written(match_id bigint, since xid8, running xid8[])
        RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz) LANGUAGE sql STABLE AS $sql$
            SELECT w.block_id::bigint, w.seat_id::bigint, n.status, n.hold_expires_at
              FROM (SELECT DISTINCT a.block_id, a.seat_id
                      FROM site.allocations a
                     WHERE a.match_id = $1 AND (a.changed_xid >= $2 OR a.changed_xid = ANY ($3) OR a.changed_xid IS NULL)) AS w
             CROSS JOIN LATERAL seatcast.status_of($1, w.seat_id) AS n
        $sql$;
    END IF;
END $$;

-- A cursor taken apart, and the next one. since NULL: all is to be told; news false: nothing can have changed.
-- 'SINCE:RUNNING,RUNNING,..@WAL#FILE'. Of many that were running only the 50 lowest are listed: it is a few old ones that matter,
-- and SINCE is then the next of them. A number alone is the xmin that earlier versions gave. FILE is that of
-- allocations: while it is the same, nobody has rewritten the table since that poll, and read_at() need not look. Internal.
CREATE OR REPLACE FUNCTION seatcast.position(cursor text, OUT since xid8, OUT running xid8[], OUT news boolean, OUT next_cursor text, OUT file oid)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    here    text := pg_current_snapshot()::text;        -- 'xmin:xmax:running,running,..'
    standby boolean := pg_is_in_recovery();
    list    text := split_part(here, ':', 3);
    now_at  text;                                       -- this snapshot, as a cursor has it
    then_at text := split_part($1, '@', 1);
    given   text := split_part($1, '#', 1);
    wal     pg_lsn := CASE WHEN standby THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END;
    behind  boolean;
BEGIN
    now_at := CASE WHEN standby THEN split_part(here, ':', 1) || ':' ELSE split_part(here, ':', 2) || ':' || list END;
    IF length(list) > 500 AND split_part(list, ',', 51) <> '' THEN
        now_at := split_part(list, ',', 51) || ':' || array_to_string((string_to_array(list, ','))[1:50], ',');
    ELSIF now_at = then_at AND NOT standby THEN
        news := false;
    END IF;
    next_cursor := now_at || '@' || coalesce(wal::text, '0/0');
    IF ($1 ~ '^[0-9]{1,19}(:([0-9]{1,19}(,[0-9]{1,19})*)?@[0-9A-F]{1,8}/[0-9A-F]{1,8}(#[0-9]{1,9})?)?$') IS NOT TRUE THEN
        RETURN;
    END IF;
    running := string_to_array(split_part(then_at, ':', 2), ',')::xid8[];
    since := split_part(then_at, ':', 1)::xid8;
    news := coalesce(news, true);
    file := nullif(split_part($1, '#', 2), '')::oid;
    IF news THEN
        IF given = then_at THEN
            behind := since > split_part(here, ':', 1)::xid8;
        ELSE
            behind := since > split_part(here, ':', 2)::xid8 OR coalesce(running[1], since) > split_part(here, ':', 1)::xid8
                      OR split_part(given, '@', 2)::pg_lsn > wal;
            IF behind AND standby THEN
                RAISE EXCEPTION 'this server is a standby that is behind the one polled before: replayed %, wanted %', wal, split_part(given, '@', 2)
                    USING ERRCODE = 'SC001';
            END IF;
        END IF;
        IF behind THEN
            since := NULL;
        END IF;
    END IF;
END $$;

-- The port. One row per seat, and the mark: seat_id NULL, next_cursor, as_of. Plans are made once per connection
-- (force_generic_plan) and kept until a table is analyzed. One that was made while the table was all but empty, when every index
-- costs the same, would be kept while it is filled: so below eight pages each query is planned when it is asked (EXECUTE), no
-- table is read from end to end for its being small (enable_seqscan), and a match is joined in a way that stays linear when
-- it grows (enable_nestloop).
CREATE OR REPLACE FUNCTION seatcast.snapshot(match_id bigint, block_id bigint)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    IF least(pg_relation_size('site.allocations'), pg_relation_size('site.seats')) < 65536 THEN
        RETURN QUERY EXECUTE 'SELECT b.*, NULL::text, NULL::timestamptz FROM seatcast.block_state($1, $2) AS b ORDER BY b.seat_id' USING $1, $2;
    ELSE
        RETURN QUERY SELECT b.*, NULL::text, NULL::timestamptz FROM seatcast.block_state($1, $2) AS b ORDER BY b.seat_id;
    END IF;
    as_of := seatcast.read_at('site.seats', 'site.allocations');
    next_cursor := (seatcast.position(NULL)).next_cursor || '#' || pg_relation_filenode('site.allocations');
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    here record := seatcast.position($3);
BEGIN
    IF here.since IS NULL THEN
        RETURN QUERY SELECT w.* FROM seatcast.snapshot($1, $2) AS w;
        RETURN;
    END IF;
    as_of := clock_timestamp();
    IF here.news THEN       -- the rows whose changed_xid >= since or was running
        IF pg_relation_size('site.allocations') < 65536 THEN
            RETURN QUERY EXECUTE 'SELECT w.*, NULL::text, NULL::timestamptz FROM seatcast.block_written($1, $2, $3, $4) AS w ORDER BY w.seat_id'
                USING $1, $2, here.since, here.running;
        ELSE
            RETURN QUERY SELECT w.*, NULL::text, NULL::timestamptz FROM seatcast.block_written($1, $2, here.since, here.running) AS w ORDER BY w.seat_id;
        END IF;
        IF pg_relation_filenode('site.allocations') IS DISTINCT FROM here.file THEN
            PERFORM seatcast.read_at('site.allocations');
        END IF;
        as_of := clock_timestamp();
    END IF;
    next_cursor := here.next_cursor || '#' || pg_relation_filenode('site.allocations');
    RETURN NEXT;
END $$;

-- The same for all blocks at once.
CREATE OR REPLACE FUNCTION seatcast.match_snapshot(match_id bigint)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT m.*, NULL::text, NULL::timestamptz FROM seatcast.match_state($1) AS m ORDER BY m.block_id, m.seat_id;
    as_of := seatcast.read_at('site.seats', 'site.allocations');
    next_cursor := (seatcast.position(NULL)).next_cursor || '#' || pg_relation_filenode('site.allocations');
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.match_changes(match_id bigint, cursor text)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    here record := seatcast.position($2);
BEGIN
    IF here.since IS NULL THEN
        RETURN QUERY SELECT w.* FROM seatcast.match_snapshot($1) AS w;
        RETURN;
    END IF;
    as_of := clock_timestamp();
    IF here.news THEN
        IF pg_relation_size('site.allocations') < 65536 THEN
            RETURN QUERY EXECUTE 'SELECT w.*, NULL::text, NULL::timestamptz FROM seatcast.match_written($1, $2, $3) AS w ORDER BY w.block_id, w.seat_id'
                USING $1, here.since, here.running;
        ELSE
            RETURN QUERY SELECT w.*, NULL::text, NULL::timestamptz FROM seatcast.match_written($1, here.since, here.running) AS w ORDER BY w.block_id, w.seat_id;
        END IF;
        IF pg_relation_filenode('site.allocations') IS DISTINCT FROM here.file THEN
            PERFORM seatcast.read_at('site.allocations');
        END IF;
        as_of := clock_timestamp();
    END IF;
    next_cursor := here.next_cursor || '#' || pg_relation_filenode('site.allocations');
    RETURN NEXT;
END $$;

\if :{?seatcast_installing}
\else
\ir bind.sql
\ir roles.sql
COMMIT;
\endif
