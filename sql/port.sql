-- port.sql: the port between seatcast and a site's tables, without snapshot() and changes(). Part of install.sql and of
-- changes_updated_at.sql. A site with other tables rewrites these functions and nothing else.
--
-- Reads are STABLE: such a function runs with the snapshot of the statement that calls it, while a VOLATILE one takes a
-- new snapshot for each of its queries (manual, "Function Volatility Categories"). Calls come from roles without any
-- privilege on a table, so all are SECURITY DEFINER with the search_path of schema.sql. $1 $2 $3 are the parameters in
-- the order of the signature, where a column of the same name would hide them.

-- What a seat is in a match: no row when it has no allocation; an end only for a HOLD, past or not (judging that is the
-- caller's business, who has a timer on it). With UNIQUE (match_id, seat_id) there is nothing to choose; without it the
-- most taken row wins, so that a sold seat is never shown as free. Internal: inlined by the planner (hence neither
-- SECURITY DEFINER nor SET), as one index probe per seat, whatever the statistics say.
CREATE OR REPLACE FUNCTION seatcast.status_of(match_id bigint, seat_id bigint)
RETURNS TABLE (status text, hold_expires_at timestamptz) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT coalesce(a.status::text, 'AVAILABLE'),
           CASE WHEN a.status::text = 'HOLD' THEN seatcast.as_instant(a.hold_expires_at) END
      FROM allocations a
     WHERE a.match_id = $1 AND a.seat_id = $2
     ORDER BY CASE coalesce(a.status::text, 'AVAILABLE')
                  WHEN 'AVAILABLE' THEN 2
                  WHEN 'HOLD' THEN CASE WHEN seatcast.as_instant(a.hold_expires_at) <= now() THEN 2 ELSE 1 END
                  ELSE 0
              END, a.hold_expires_at DESC NULLS FIRST
     LIMIT 1
$$;

CREATE OR REPLACE FUNCTION seatcast.block_exists(match_id bigint, block_id bigint)
RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT EXISTS (SELECT FROM matches m WHERE m.id = $1) AND EXISTS (SELECT FROM blocks b WHERE b.id = $2)
$$;

-- The site. An unknown parent is an error (P0002, no_data_found), a known one without children is no rows.

CREATE OR REPLACE FUNCTION seatcast.areas()
RETURNS TABLE (id bigint, name text) LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT a.id::bigint, a.name::text FROM areas a ORDER BY a.id
$$;

CREATE OR REPLACE FUNCTION seatcast.sections(area_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM areas a WHERE a.id = $1) THEN
        RAISE EXCEPTION 'no area %', $1 USING ERRCODE = 'P0002';
    END IF;
    RETURN QUERY SELECT s.id::bigint, s.name::text FROM sections s WHERE s.area_id = $1 ORDER BY s.id;
END $$;

CREATE OR REPLACE FUNCTION seatcast.blocks(section_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM sections s WHERE s.id = $1) THEN
        RAISE EXCEPTION 'no section %', $1 USING ERRCODE = 'P0002';
    END IF;
    RETURN QUERY SELECT b.id::bigint, b.name::text FROM blocks b WHERE b.section_id = $1 ORDER BY b.id;
END $$;

CREATE OR REPLACE FUNCTION seatcast.block_seats(block_id bigint)
RETURNS TABLE (id bigint, row_number integer, seat_number integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM blocks b WHERE b.id = $1) THEN
        RAISE EXCEPTION 'no block %', $1 USING ERRCODE = 'P0002';
    END IF;
    RETURN QUERY SELECT s.id::bigint, s.row_number::integer, s.seat_number::integer
                   FROM seats s WHERE s.block_id = $1 ORDER BY s.id;
END $$;

-- Allocation. Each function decides in one statement; what follows a refusal only words it. Two buyers meet at the unique
-- index or at the row's lock, and the second one's condition is evaluated on the row that the first one left (READ
-- COMMITTED: manual, "Transaction Isolation"). Under REPEATABLE READ and SERIALIZABLE the second one gets 40001 instead,
-- which the caller retries. The clock is clock_timestamp(), read after the wait for the lock.

-- Is this row a hold that still counts? Internal, inlined. A hold without an end lasts.
CREATE OR REPLACE FUNCTION seatcast.holds(status text, hold_expires_at timestamptz)
RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT $1 = 'HOLD' AND ($2 IS NULL OR $2 > clock_timestamp())
$$;

CREATE OR REPLACE FUNCTION seatcast.hold(match_id bigint, seat_id bigint, user_id bigint, duration interval)
RETURNS TABLE (outcome text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    until allocations.hold_expires_at%TYPE;
BEGIN
    IF $3 IS NULL OR $4 IS NULL OR $4 <= interval '0' THEN
        RAISE EXCEPTION 'a hold needs a user and a duration above zero' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    until := seatcast.as_stored(clock_timestamp() + $4, until);
    RETURN QUERY
    INSERT INTO allocations AS a (match_id, seat_id, user_id, status, hold_expires_at)
    SELECT m.id, s.id, $3, 'HOLD', until FROM matches m, seats s WHERE m.id = $1 AND s.id = $2
    ON CONFLICT (match_id, seat_id) DO UPDATE
       SET user_id = excluded.user_id, status = 'HOLD',
           hold_expires_at = seatcast.as_stored(clock_timestamp() + $4, a.hold_expires_at)
     WHERE coalesce(a.status::text, 'AVAILABLE') = 'AVAILABLE'
        OR a.status::text = 'HOLD' AND (a.user_id = excluded.user_id
                                        OR NOT seatcast.holds(a.status::text, seatcast.as_instant(a.hold_expires_at)))
    RETURNING 'ok', seatcast.as_instant(a.hold_expires_at);
    IF NOT FOUND THEN
        outcome := CASE WHEN EXISTS (SELECT FROM matches m WHERE m.id = $1) AND EXISTS (SELECT FROM seats s WHERE s.id = $2)
                        THEN 'conflict' ELSE 'unknown' END;
        hold_expires_at := NULL;
        RETURN NEXT;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION seatcast.release(match_id bigint, seat_id bigint, user_id bigint)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    UPDATE allocations a
       SET status = 'AVAILABLE', user_id = NULL, hold_expires_at = NULL
     WHERE a.match_id = $1 AND a.seat_id = $2 AND a.user_id = $3
       AND seatcast.holds(a.status::text, seatcast.as_instant(a.hold_expires_at));
    RETURN CASE WHEN FOUND THEN 'ok'
                WHEN EXISTS (SELECT FROM matches m WHERE m.id = $1) AND EXISTS (SELECT FROM seats s WHERE s.id = $2) THEN 'conflict'
                ELSE 'unknown' END;
END $$;

-- All or nothing: `mine` locks the rows in the order of seat ids (two confirmations of the same seats cannot deadlock) and
-- reads them as they are once locked; only when all of it has been read does `verdict` exist, and the UPDATE begins.
CREATE OR REPLACE FUNCTION seatcast.confirm(match_id bigint, user_id bigint, seat_ids bigint[])
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    IF $2 IS NULL OR coalesce(cardinality($3), 0) = 0 OR array_position($3, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a confirmation needs a user and at least one seat' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WITH mine AS MATERIALIZED (
        SELECT a.seat_id, a.user_id, a.status::text AS status, seatcast.as_instant(a.hold_expires_at) AS expires
          FROM allocations a
         WHERE a.match_id = $1 AND a.seat_id = ANY ($3)
         ORDER BY a.seat_id
           FOR UPDATE
    ), verdict AS MATERIALIZED (
        SELECT coalesce(bool_and(l.user_id = $2 AND seatcast.holds(l.status, l.expires)), false)
               AND count(DISTINCT l.seat_id) = (SELECT count(DISTINCT w.id) FROM unnest($3) AS w (id)) AS all_held
          FROM mine l
    )
    UPDATE allocations a
       SET status = 'OCCUPIED', hold_expires_at = NULL
     WHERE a.match_id = $1 AND a.seat_id = ANY ($3) AND (SELECT v.all_held FROM verdict v);
    RETURN CASE WHEN FOUND THEN 'ok'
                WHEN EXISTS (SELECT FROM matches m WHERE m.id = $1)
                     AND NOT EXISTS (SELECT FROM unnest($3) AS w (id) WHERE NOT EXISTS (SELECT FROM seats s WHERE s.id = w.id))
                THEN 'conflict' ELSE 'unknown' END;
END $$;

-- Without the unique index ON CONFLICT cannot work. Then hold() says so in words (and streams go on).
DO $$
BEGIN
    IF NOT seatcast.has_index('allocations', '{match_id,seat_id}', 'unique') THEN
        CREATE OR REPLACE FUNCTION seatcast.hold(match_id bigint, seat_id bigint, user_id bigint, duration interval)
        RETURNS TABLE (outcome text, hold_expires_at timestamptz)
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $hold$
        BEGIN
            RAISE EXCEPTION 'seats cannot be held: allocations has no UNIQUE (match_id, seat_id)'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Leave one row per match and seat, then run sql/install.sql again.';
        END $hold$;
    END IF;
END $$;
