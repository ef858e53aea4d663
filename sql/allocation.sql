-- SPDX-License-Identifier: ISC
-- allocation.sql: hold, release and confirm. Part of install.sql and of changes_updated_at.sql, and of a port for other tables.
--
-- It names no table of the site's. What is particular to one, four small functions of the port do (port.sql, doc/other-schema.sql):
--     lock_seats(match, seats)                        the seats asked for, each once, by id, their rows locked; user_id as text
--     update_seats(match, seats, user, status, ends)  write to seats that have a row; insert_seats: to those that have none
--     holds_of(match, user, but)                      how many other seats of the match this user holds
--
-- Each function locks the rows of its seats, in the order of seat ids (two buyers cannot deadlock), judges them as they are once
-- locked, and writes all of them or none. Where a seat has no row yet the unique index keeps two buyers apart. The clock is
-- clock_timestamp(), read after the wait. Who meets a locked row waits for 100 ms and not longer (55P03): a buyer who waits
-- has lost that seat, and must not keep the others waiting. Under REPEATABLE READ and SERIALIZABLE a seat that another has
-- just changed is 40001, which the caller retries.
--
-- NULL is never "yes": a hold without a user is somebody else's, one without an end lasts, a status that is not known is sold.
-- SECURITY DEFINER and search_path: see schema.sql. Generic plans, made while tables may be empty: see changes_exact.sql.

-- Is this a hold that still counts? Internal, inlined. -infinity is over.
CREATE OR REPLACE FUNCTION seatcast.holds(status text, hold_expires_at timestamptz)
RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT coalesce($1 = 'HOLD' AND ($2 IS NULL OR $2 > pg_catalog.clock_timestamp()), false)
$$;

-- When a hold began, for those that may not be renewed for ever. What `held` says counts only if user and end are those of the
-- seat's row: otherwise somebody else has written a hold of his own there.
CREATE TABLE IF NOT EXISTS seatcast.held (
    match_id bigint NOT NULL,
    seat_id  bigint NOT NULL,
    user_id  bigint NOT NULL,
    began    timestamptz NOT NULL,
    ends     timestamptz NOT NULL,
    PRIMARY KEY (match_id, seat_id)
);

-- max_holds counts the user's holds in this match, those asked for included; renewing is always allowed. Only with such a limit
-- do two requests of one user wait for each other. lifetime: a hold ends at its beginning plus that, at the latest; a renewal
-- that would gain nothing is refused. 0 or NULL: no limit.
CREATE OR REPLACE FUNCTION seatcast.hold_seats(match_id bigint, user_id bigint, seat_ids bigint[], duration interval,
                                               max_holds integer, lifetime interval)
RETURNS TABLE (seat_id bigint, block_id bigint, outcome text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    most     integer := CASE WHEN $5 > 0 THEN $5 END;
    span     interval := CASE WHEN $6 > interval '0' THEN $6 END;
    others   bigint := 0;
    good     boolean;
    ids      bigint[];
    blocks   bigint[];
    outcomes text[];
    begins   timestamptz[];
    ends     timestamptz[];     -- as they are stored, which may be less exact
    old      bigint[];          -- which have a row already, and until when they are to be held
    old_ends timestamptz[];
    new      bigint[];          -- and which have none
    new_ends timestamptz[];
    tries    integer := 0;
BEGIN
    IF $2 IS NULL OR $4 IS NULL OR $4 <= interval '0' OR coalesce(cardinality($3), 0) = 0 OR array_position($3, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a hold needs a user, a duration above zero and at least one seat' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF most IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(format('seatcast holds %s %s', $1, $2), 0));
        others := seatcast.holds_of($1, $2, $3);
    END IF;
    LOOP
        SELECT bool_and(d.outcome = 'ok'), array_agg(d.seat_id), array_agg(d.block_id), array_agg(d.outcome), array_agg(d.began),
               array_agg(d.seat_id) FILTER (WHERE d.there), array_agg(d.ends) FILTER (WHERE d.there),
               array_agg(d.seat_id) FILTER (WHERE NOT d.there), array_agg(d.ends) FILTER (WHERE NOT d.there)
          INTO good, ids, blocks, outcomes, begins, old, old_ends, new, new_ends
          FROM (SELECT v.seat_id, v.block_id, v.there, v.began, e.ends,
                       CASE WHEN v.verdict = 'renew' AND e.ends < v.at + $4 AND isfinite(v.hold_expires_at) AND e.ends <= v.hold_expires_at THEN 'limit'
                            WHEN v.verdict = 'renew' THEN 'ok'
                            WHEN v.verdict = 'ok' AND others + count(*) FILTER (WHERE v.verdict IN ('ok', 'renew')) OVER () > most THEN 'limit'
                            ELSE v.verdict END AS outcome
                  FROM (SELECT l.*, c.at, j.verdict,
                               coalesce((SELECT b.began FROM seatcast.held b WHERE j.verdict = 'renew' AND span IS NOT NULL AND b.match_id = $1 AND b.seat_id = l.seat_id
                                            AND b.user_id = $2 AND b.ends = l.hold_expires_at), c.at) AS began
                          FROM seatcast.lock_seats($1, $3) AS l
                         CROSS JOIN LATERAL (SELECT clock_timestamp()) AS c (at)
                         CROSS JOIN LATERAL (SELECT CASE WHEN NOT l.known THEN 'unknown'
                                                         WHEN l.status = 'AVAILABLE' THEN 'ok'
                                                         WHEN l.status <> 'HOLD' THEN 'sold'
                                                         WHEN l.hold_expires_at <= c.at THEN 'ok'
                                                         WHEN l.user_id = $2::text THEN 'renew'
                                                         ELSE 'held' END) AS j (verdict)) AS v
                 CROSS JOIN LATERAL (SELECT least(v.at + $4, v.began + span)) AS e (ends)) AS d;
        IF NOT good THEN
            RETURN QUERY SELECT w.id, w.block, w.outcome, NULL::timestamptz FROM unnest(ids, blocks, outcomes) AS w (id, block, outcome);
            RETURN;
        END IF;
        EXIT WHEN new IS NULL;
        BEGIN
            SELECT array_agg(w.seat_id), array_agg(w.hold_expires_at) INTO new, new_ends FROM seatcast.insert_seats($1, new, $2, 'HOLD', new_ends) AS w;
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            -- Somebody was faster, and now has a row that can be judged; if it is another rule of the site's, we end here.
            tries := tries + 1;
            IF tries = 3 THEN
                RAISE;
            END IF;
        END;
    END LOOP;
    IF old IS NOT NULL THEN
        SELECT array_agg(w.seat_id), array_agg(w.hold_expires_at) INTO old, old_ends FROM seatcast.update_seats($1, old, $2, 'HOLD', old_ends) AS w;
    END IF;
    IF span IS NOT NULL THEN
        INSERT INTO seatcast.held AS h (match_id, seat_id, user_id, began, ends)
        SELECT $1, w.id, $2, w.began, e.ends
          FROM unnest(ids, begins) AS w (id, began) JOIN unnest(old || new, old_ends || new_ends) AS e (id, ends) ON e.id = w.id
         ORDER BY w.id
        ON CONFLICT (match_id, seat_id) DO UPDATE SET user_id = excluded.user_id, began = excluded.began, ends = excluded.ends;
    END IF;
    RETURN QUERY
    SELECT w.id, w.block, 'ok', e.ends
      FROM unnest(ids, blocks) AS w (id, block) LEFT JOIN unnest(old || new, old_ends || new_ends) AS e (id, ends) ON e.id = w.id
     ORDER BY w.id;
END $$;

CREATE OR REPLACE FUNCTION seatcast.release_seats(match_id bigint, user_id bigint, seat_ids bigint[])
RETURNS TABLE (seat_id bigint, block_id bigint, outcome text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    ids      bigint[];
    blocks   bigint[];
    outcomes text[];
BEGIN
    IF $2 IS NULL OR coalesce(cardinality($3), 0) = 0 OR array_position($3, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a release needs a user and at least one seat' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT array_agg(d.seat_id), array_agg(d.block_id), array_agg(d.outcome) INTO ids, blocks, outcomes
      FROM (SELECT l.seat_id, l.block_id,
                   CASE WHEN NOT l.known THEN 'unknown'
                        WHEN l.user_id = $2::text AND seatcast.holds(l.status, l.hold_expires_at) THEN 'ok'
                        ELSE 'not-yours' END AS outcome
              FROM seatcast.lock_seats($1, $3) AS l) AS d;
    IF 'ok' = ALL (outcomes) THEN
        PERFORM seatcast.update_seats($1, ids, NULL, 'AVAILABLE', NULL);
    END IF;
    RETURN QUERY SELECT w.id, w.block, w.outcome, NULL::timestamptz FROM unnest(ids, blocks, outcomes) AS w (id, block, outcome);
END $$;

-- What this user has bought already is his: confirming again does nothing, and says so.
CREATE OR REPLACE FUNCTION seatcast.confirm_seats(match_id bigint, user_id bigint, seat_ids bigint[])
RETURNS TABLE (seat_id bigint, block_id bigint, outcome text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    ids      bigint[];
    blocks   bigint[];
    outcomes text[];
    held     bigint[];
BEGIN
    IF $2 IS NULL OR coalesce(cardinality($3), 0) = 0 OR array_position($3, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a confirmation needs a user and at least one seat' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT array_agg(d.seat_id), array_agg(d.block_id), array_agg(d.outcome), array_agg(d.seat_id) FILTER (WHERE d.status = 'HOLD')
      INTO ids, blocks, outcomes, held
      FROM (SELECT l.seat_id, l.block_id, l.status,
                   CASE WHEN NOT l.known THEN 'unknown'
                        WHEN l.user_id = $2::text AND (l.status = 'OCCUPIED' OR seatcast.holds(l.status, l.hold_expires_at)) THEN 'ok'
                        WHEN l.status = 'OCCUPIED' THEN 'sold'
                        ELSE 'not-yours' END AS outcome
              FROM seatcast.lock_seats($1, $3) AS l) AS d;
    IF 'ok' = ALL (outcomes) AND held IS NOT NULL THEN
        PERFORM seatcast.update_seats($1, held, $2, 'OCCUPIED', NULL);
    END IF;
    RETURN QUERY SELECT w.id, w.block, w.outcome, NULL::timestamptz FROM unnest(ids, blocks, outcomes) AS w (id, block, outcome);
END $$;

-- The same for one seat, or in one word: for people, and for programs of before. A refusal is 'conflict', whatever its reason.

CREATE OR REPLACE FUNCTION seatcast.hold(match_id bigint, seat_id bigint, user_id bigint, duration interval)
RETURNS TABLE (outcome text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT CASE WHEN h.outcome IN ('ok', 'unknown') THEN h.outcome ELSE 'conflict' END, h.hold_expires_at
      FROM seatcast.hold_seats($1, $3, ARRAY[$2], $4, 0, NULL) AS h;
END $$;

CREATE OR REPLACE FUNCTION seatcast.release(match_id bigint, seat_id bigint, user_id bigint)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT CASE WHEN r.outcome IN ('ok', 'unknown') THEN r.outcome ELSE 'conflict' END
              FROM seatcast.release_seats($1, $3, ARRAY[$2]) AS r);
END $$;

CREATE OR REPLACE FUNCTION seatcast.confirm(match_id bigint, user_id bigint, seat_ids bigint[])
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT CASE WHEN bool_and(c.outcome = 'ok') THEN 'ok' WHEN bool_or(c.outcome = 'unknown') THEN 'unknown' ELSE 'conflict' END
              FROM seatcast.confirm_seats($1, $2, $3) AS c);
END $$;
