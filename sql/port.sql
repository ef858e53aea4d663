-- SPDX-License-Identifier: ISC
-- port.sql: the port between seatcast and a site's tables, without the polls' functions. Part of install.sql and of
-- changes_updated_at.sql, after allocation.sql. A site with other tables rewrites these functions and those of the polls.
--
-- Calls come from roles without any privilege on a table, so all are SECURITY DEFINER; schema.sql says why their
-- search_path is what it is, and what `site` means. PL/pgSQL, because an SQL function that is not inlined is planned anew
-- at each call, which costs ten times what it does. $1 $2 $3 are the parameters in the order of the signature, where a
-- column of the same name would hide them.
--
-- Reads are STABLE: such a function runs with the snapshot of the statement that calls it, however many queries it has,
-- while a VOLATILE one takes a new snapshot for each of them (manual, "Function Volatility Categories"). Each ends with
-- seatcast.read_at(), so that a table that was rewritten meanwhile is an error and not an empty answer.

-- What a seat is in a match: no row when it has no allocation; an end only for a HOLD, past or not (judging that is the
-- caller's business, who has a timer on it). With UNIQUE (match_id, seat_id) there is nothing to choose; without it the
-- most taken row wins, so that a sold seat is never shown as free. Internal: inlined by the planner (hence neither
-- SECURITY DEFINER nor SET), as one index probe per seat, whatever the statistics say.
CREATE OR REPLACE FUNCTION seatcast.status_of(match_id bigint, seat_id bigint)
RETURNS TABLE (status text, hold_expires_at timestamptz) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT coalesce(a.status::text, 'AVAILABLE'),
           CASE WHEN a.status::text = 'HOLD' THEN seatcast.as_instant(a.hold_expires_at) END
      FROM site.allocations a
     WHERE a.match_id = $1 AND a.seat_id = $2
     ORDER BY CASE coalesce(a.status::text, 'AVAILABLE')
                  WHEN 'AVAILABLE' THEN 2
                  WHEN 'HOLD' THEN CASE WHEN seatcast.as_instant(a.hold_expires_at) <= pg_catalog.now() THEN 2 ELSE 1 END
                  ELSE 0
              END, a.hold_expires_at DESC NULLS FIRST
     LIMIT 1
$$;

-- Is there such a match, and such blocks? "No" is only said when the tables are certain.
CREATE OR REPLACE FUNCTION seatcast.blocks_exist(match_id bigint, block_ids bigint[])
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM site.matches m WHERE m.id = $1)
       AND NOT EXISTS (SELECT FROM unnest($2) AS w (id) WHERE NOT EXISTS (SELECT FROM site.blocks b WHERE b.id = w.id)) THEN
        RETURN true;
    END IF;
    PERFORM seatcast.read_at('site.matches', 'site.blocks');
    RETURN false;
END $$;

CREATE OR REPLACE FUNCTION seatcast.block_exists(match_id bigint, block_id bigint)
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM site.matches m WHERE m.id = $1) AND EXISTS (SELECT FROM site.blocks b WHERE b.id = $2) THEN
        RETURN true;
    END IF;
    PERFORM seatcast.read_at('site.matches', 'site.blocks');
    RETURN false;
END $$;

-- The site. An unknown parent is an error (P0002, no_data_found), a known one without children is no rows.

CREATE OR REPLACE FUNCTION seatcast.matches()
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT m.id::bigint, m.name::text FROM site.matches m ORDER BY m.id;
    PERFORM seatcast.read_at('site.matches');
END $$;

-- The whole of it, seats left out: NULLs where an area has no section, or a section no block.
CREATE OR REPLACE FUNCTION seatcast.stadium()
RETURNS TABLE (area_id bigint, area_name text, section_id bigint, section_name text, block_id bigint, block_name text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT a.id::bigint, a.name::text, s.id::bigint, s.name::text, b.id::bigint, b.name::text
      FROM site.areas a
      LEFT JOIN site.sections s ON s.area_id = a.id
      LEFT JOIN site.blocks b ON b.section_id = s.id
     ORDER BY a.id, s.id, b.id;
    PERFORM seatcast.read_at('site.areas', 'site.sections', 'site.blocks');
END $$;

CREATE OR REPLACE FUNCTION seatcast.areas()
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT a.id::bigint, a.name::text FROM site.areas a ORDER BY a.id;
    PERFORM seatcast.read_at('site.areas');
END $$;

CREATE OR REPLACE FUNCTION seatcast.sections(area_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT s.id::bigint, s.name::text FROM site.sections s WHERE s.area_id = $1 ORDER BY s.id;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM site.areas a WHERE a.id = $1) THEN
        PERFORM seatcast.read_at('site.areas');
        RAISE EXCEPTION 'no area %', $1 USING ERRCODE = 'P0002';
    END IF;
    PERFORM seatcast.read_at('site.sections');
END $$;

CREATE OR REPLACE FUNCTION seatcast.blocks(section_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT b.id::bigint, b.name::text FROM site.blocks b WHERE b.section_id = $1 ORDER BY b.id;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM site.sections s WHERE s.id = $1) THEN
        PERFORM seatcast.read_at('site.sections');
        RAISE EXCEPTION 'no section %', $1 USING ERRCODE = 'P0002';
    END IF;
    PERFORM seatcast.read_at('site.blocks');
END $$;

CREATE OR REPLACE FUNCTION seatcast.block_seats(block_id bigint)
RETURNS TABLE (id bigint, row_number integer, seat_number integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT s.id::bigint, s.row_number::integer, s.seat_number::integer
                   FROM site.seats s WHERE s.block_id = $1 ORDER BY s.id;
    IF NOT FOUND AND NOT EXISTS (SELECT FROM site.blocks b WHERE b.id = $1) THEN
        PERFORM seatcast.read_at('site.blocks');
        RAISE EXCEPTION 'no block %', $1 USING ERRCODE = 'P0002';
    END IF;
    PERFORM seatcast.read_at('site.seats');
END $$;

-- Allocation: what allocation.sql asks of these tables. Internal.

-- The seats asked for, each once, by id, their rows locked; there: it has a row; known: match and seat exist.
-- NO KEY UPDATE does not wait for another application's foreign keys to the row (an order that is being written).
CREATE OR REPLACE FUNCTION seatcast.lock_seats(match_id bigint, seat_ids bigint[])
RETURNS TABLE (seat_id bigint, block_id bigint, known boolean, there boolean, status text, user_id text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH locked AS MATERIALIZED (
        SELECT a.seat_id, a.status::text AS status, a.user_id, seatcast.as_instant(a.hold_expires_at) AS ends
          FROM site.allocations a
         WHERE a.match_id = $1 AND a.seat_id = ANY ($2)
         ORDER BY a.seat_id
           FOR NO KEY UPDATE
    )
    SELECT w.id, w.block_id, w.block_id IS NOT NULL AND EXISTS (SELECT FROM site.matches m WHERE m.id = $1), l.seat_id IS NOT NULL,
           coalesce(l.status, 'AVAILABLE'), l.user_id::text, l.ends
      FROM (SELECT DISTINCT u.id, (SELECT s.block_id::bigint FROM site.seats s WHERE s.id = u.id) AS block_id FROM unnest($2) AS u (id)) AS w
      LEFT JOIN locked l ON l.seat_id = w.id
     ORDER BY w.id;
END $$;

CREATE OR REPLACE FUNCTION seatcast.holds_of(match_id bigint, user_id bigint, but bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    who site.allocations.user_id%TYPE := $2;        -- the index is one of that type
BEGIN
    RETURN (SELECT count(*) FROM site.allocations a
             WHERE a.match_id = $1 AND a.user_id = who AND a.seat_id <> ALL ($3)
               AND seatcast.holds(a.status::text, seatcast.as_instant(a.hold_expires_at)));
END $$;

-- The two that write. Triggers of the site's that fire here may need the site's schemas on the search_path: bind.sql puts them
-- there, if there are such triggers. So everything is qualified in these two, operators too.
CREATE OR REPLACE FUNCTION seatcast.update_seats(match_id bigint, seat_ids bigint[], user_id bigint, status text, ends timestamptz[])
RETURNS TABLE (seat_id bigint, hold_expires_at timestamptz) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, site, pg_temp AS $$
#variable_conflict use_column
DECLARE
    word site.allocations.status%TYPE := $4;
BEGIN
    RETURN QUERY
    UPDATE site.allocations a
       SET user_id = $3, status = word, hold_expires_at = seatcast.as_stored(w.ends, a.hold_expires_at),
           updated_at = seatcast.as_stored(pg_catalog.clock_timestamp(), a.updated_at) /* version */
      FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($5)) AS w (id, ends)
     WHERE a.match_id OPERATOR(pg_catalog.=) $1 AND a.seat_id OPERATOR(pg_catalog.=) w.id
    RETURNING a.seat_id::bigint, seatcast.as_instant(a.hold_expires_at);
END $$;

CREATE OR REPLACE FUNCTION seatcast.insert_seats(match_id bigint, seat_ids bigint[], user_id bigint, status text, ends timestamptz[])
RETURNS TABLE (seat_id bigint, hold_expires_at timestamptz) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, site, pg_temp AS $$
#variable_conflict use_column
DECLARE
    word   site.allocations.status%TYPE := $4;
    an_end site.allocations.hold_expires_at%TYPE;       -- of these two only the types count
    a_time site.allocations.updated_at%TYPE;
BEGIN
    RETURN QUERY
    INSERT INTO site.allocations AS a (match_id, seat_id, user_id, status, hold_expires_at, updated_at /* version column */)
    SELECT $1, w.id, $3, word, seatcast.as_stored(w.ends, an_end), seatcast.as_stored(pg_catalog.clock_timestamp(), a_time) /* version value */
      FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($5)) AS w (id, ends)
    RETURNING a.seat_id::bigint, seatcast.as_instant(a.hold_expires_at);
END $$;

-- Without the unique index nothing keeps two buyers apart. Then seats cannot be held, in words (and streams go on).
DO $$
BEGIN
    IF NOT seatcast.has_index(seatcast.site_table('allocations'), '{match_id,seat_id}', 'unique') THEN
        CREATE OR REPLACE FUNCTION seatcast.hold_seats(match_id bigint, user_id bigint, seat_ids bigint[], duration interval,
                                                       max_holds integer, lifetime interval)
        RETURNS TABLE (seat_id bigint, block_id bigint, outcome text, hold_expires_at timestamptz)
        LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $hold$
        BEGIN
            RAISE EXCEPTION 'seats cannot be held: allocations has no UNIQUE (match_id, seat_id)'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Leave one row per match and seat, then run sql/install.sql again.';
        END $hold$;
    END IF;
END $$;
