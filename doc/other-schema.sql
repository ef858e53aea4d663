-- SPDX-License-Identifier: ISC
-- other-schema.sql: the port functions of seatcast for the tables of another application; other-schema.md explains them.
--
--     psql -1 -v ON_ERROR_STOP=1 -f doc/other-schema.sql -f sql/allocation.sql -f sql/roles.sql                (functions, tracking, roles)
--     psql -1 -v ON_ERROR_STOP=1 -v sample=1 -f doc/other-schema.sql -f sql/allocation.sql -f sql/roles.sql    (and the application to try it on)
--
-- The application is a shop that knew nothing of seatcast. Its tables are in the schema `shop`, its times are those of
-- Seoul, stored without a zone, and a seat's history stays: a cancelled ticket is a row like any other.
-- No column of the shop's tables is added or altered. A trigger is added to shop.ticket, and a table of our own.
-- Can be run again at any time. Tested with PostgreSQL 15; nothing in it needs more than 13.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SET lock_timeout = '10s';       -- what waits for the shop's table makes buyers wait behind it: rather fail and be run again

-- 1. The application: what was there before. ---------------------------------------------------------------------------

\if :{?sample}
CREATE SCHEMA IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.game   (game_no int PRIMARY KEY, title text NOT NULL, canceled boolean NOT NULL DEFAULT false);
CREATE TABLE IF NOT EXISTS shop.grade  (grade_no int PRIMARY KEY, title text NOT NULL);
CREATE TABLE IF NOT EXISTS shop.zone   (zone_no int PRIMARY KEY, grade_no int NOT NULL REFERENCES shop.grade, title text NOT NULL);
CREATE TABLE IF NOT EXISTS shop.stand  (stand_no int PRIMARY KEY, zone_no int NOT NULL REFERENCES shop.zone, title text NOT NULL);
CREATE TABLE IF NOT EXISTS shop.chair  (chair_no int PRIMARY KEY, stand_no int NOT NULL REFERENCES shop.stand,
                                        row_letter char(1) NOT NULL, place int NOT NULL);
CREATE INDEX IF NOT EXISTS chair_stand ON shop.chair (stand_no, chair_no);
CREATE TABLE IF NOT EXISTS shop.ticket (
    ticket_no      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    game_no        int NOT NULL REFERENCES shop.game,
    chair_no       int NOT NULL REFERENCES shop.chair,
    member_no      bigint,
    state          text NOT NULL CHECK (state IN ('RESERVED', 'PAID', 'BLOCKED', 'CANCELED')),
    reserved_until timestamp,                   -- Seoul
    modified_at    timestamp NOT NULL DEFAULT timezone('Asia/Seoul', now())
);
CREATE UNIQUE INDEX IF NOT EXISTS ticket_one_live ON shop.ticket (game_no, chair_no) WHERE state <> 'CANCELED';

INSERT INTO shop.game   VALUES (7, 'Opening day'), (8, 'Second day') ON CONFLICT DO NOTHING;
INSERT INTO shop.grade  VALUES (1, 'Infield') ON CONFLICT DO NOTHING;
INSERT INTO shop.zone   VALUES (11, 1, 'Infield, first base') ON CONFLICT DO NOTHING;
INSERT INTO shop.stand  VALUES (110, 11, '110'), (111, 11, '111') ON CONFLICT DO NOTHING;
INSERT INTO shop.chair  SELECT 110000 + i, 110 + i / 100, chr(65 + i % 100 / 10), i % 10 + 1
                          FROM generate_series(0, 199) AS i ON CONFLICT DO NOTHING;
\endif

-- 2. Tracking: which chair was touched by which transaction. ------------------------------------------------------------
-- With `touched` beside the shop's table nothing of the shop's changes, a DELETE leaves a trace too, and a poll finds the
-- stand without asking the chair. The argument is that of sql/changes_exact.sql: the row of `touched` is written by the
-- transaction that writes the ticket, so who sees the one sees the other.

CREATE SCHEMA IF NOT EXISTS seatcast;
CREATE TABLE IF NOT EXISTS seatcast.touched (
    game_no     int NOT NULL,
    chair_no    int NOT NULL,
    stand_no    int NOT NULL,
    changed_xid xid8 NOT NULL,
    PRIMARY KEY (game_no, chair_no)
) WITH (fillfactor = 70);
DO $$      -- IF NOT EXISTS alone would lock the table before it looks for the name, and wait for every buyer's transaction
BEGIN
    IF to_regclass('seatcast.touched_by_stand') IS NULL THEN
        CREATE INDEX touched_by_stand ON seatcast.touched (game_no, stand_no, changed_xid);
    END IF;
    IF to_regclass('seatcast.touched_by_game') IS NULL THEN
        CREATE INDEX touched_by_game ON seatcast.touched (game_no, changed_xid);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION seatcast.touch(game int, chair int)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO seatcast.touched AS t (game_no, chair_no, stand_no, changed_xid)
    SELECT $1, c.chair_no, c.stand_no, pg_current_xact_id() FROM shop.chair c WHERE c.chair_no = $2
    ON CONFLICT (game_no, chair_no) DO UPDATE
       SET stand_no = excluded.stand_no, changed_xid = excluded.changed_xid
     WHERE (t.stand_no, t.changed_xid) IS DISTINCT FROM (excluded.stand_no, excluded.changed_xid)
$$;

CREATE OR REPLACE FUNCTION seatcast.track_ticket()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM seatcast.touch(OLD.game_no, OLD.chair_no);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM seatcast.touch(NEW.game_no, NEW.chair_no);
    END IF;
    RETURN NULL;
END $$;

-- ENABLE ALWAYS: on a subscriber of logical replication an ordinary trigger would not fire.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'shop.ticket'::regclass AND tgname = 'zz_seatcast_track' AND tgenabled = 'A') THEN
        DROP TRIGGER IF EXISTS zz_seatcast_track ON shop.ticket;
        CREATE TRIGGER zz_seatcast_track AFTER INSERT OR UPDATE OR DELETE ON shop.ticket
            FOR EACH ROW EXECUTE FUNCTION seatcast.track_ticket();
        ALTER TABLE shop.ticket ENABLE ALWAYS TRIGGER zz_seatcast_track;
    END IF;
END $$;

-- Restored from another cluster, whose transaction ids were ahead of ours: begin anew (see other-schema.md).
UPDATE seatcast.touched SET changed_xid = pg_current_xact_id() WHERE changed_xid >= pg_snapshot_xmax(pg_current_snapshot());

-- 3. Two words of translation. Inlined by the planner: hence SQL, and no options. ---------------------------------------

-- The shop's word for a seatcast status. What we don't know is not for sale.
CREATE OR REPLACE FUNCTION seatcast.shop_status(state text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE coalesce($1, 'CANCELED') WHEN 'CANCELED' THEN 'AVAILABLE' WHEN 'RESERVED' THEN 'HOLD' ELSE 'OCCUPIED' END
$$;

-- The shop's clock on the wall, as an instant.
CREATE OR REPLACE FUNCTION seatcast.shop_time(stored timestamp) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT $1 AT TIME ZONE 'Asia/Seoul'
$$;

-- A chair's ticket that counts, of which there is one at most (ticket_one_live). As a subquery with a LIMIT it is looked for by the
-- index, chair by chair, and not joined by reading every ticket.
CREATE OR REPLACE FUNCTION seatcast.live_ticket(match_id bigint, chair int)
RETURNS TABLE (state text, reserved_until timestamp) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT t.state, t.reserved_until FROM shop.ticket t WHERE t.game_no = $1 AND t.chair_no = $2 AND t.state <> 'CANCELED' LIMIT 1
$$;

-- 4. The port: reads. ---------------------------------------------------------------------------------------------------
-- Every table with its schema, and a search_path in which nobody can put anything: see sql/schema.sql for what happens
-- otherwise. PL/pgSQL, so that a connection plans each query once.

-- The clock, once it is certain that these tables are the ones our snapshot knows (sql/schema.sql has the whole argument):
-- ALTER TABLE and TRUNCATE put a new file in a table's place, which is empty to a poll that waited for them.
CREATE OR REPLACE FUNCTION seatcast.read_at(VARIADIC tabs regclass[]) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT count(*) FROM pg_class c WHERE c.oid = ANY (tabs) AND c.relfilenode = coalesce(pg_relation_filenode(c.oid), 0)) <> cardinality(tabs) THEN
        RAISE EXCEPTION 'a table was rewritten while this statement waited for it: %', tabs
            USING ERRCODE = 'serialization_failure', HINT = 'Ask again.';
    END IF;
    RETURN clock_timestamp();
END $$;

CREATE OR REPLACE FUNCTION seatcast.blocks_exist(match_id bigint, block_ids bigint[])
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM shop.game g WHERE g.game_no = $1 AND NOT g.canceled)
       AND NOT EXISTS (SELECT FROM unnest($2) AS w (id) WHERE NOT EXISTS (SELECT FROM shop.stand s WHERE s.stand_no = w.id)) THEN
        RETURN true;
    END IF;
    PERFORM seatcast.read_at('shop.game', 'shop.stand');
    RETURN false;
END $$;

CREATE OR REPLACE FUNCTION seatcast.block_exists(match_id bigint, block_id bigint)
RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN seatcast.blocks_exist($1, ARRAY[$2]);
END $$;

-- A cursor is the snapshot of the poll that gave it: the first transaction id that had not been given out, and those of the
-- transactions that were running ('812:790,805'). What that poll did not see was written by one of these or by a later one.
-- On a standby, which does not tell who is running: the lowest id that was (xmin), and nothing more. Of many that were
-- running the first 50 are listed, and what is later counts as later.
CREATE OR REPLACE FUNCTION seatcast.next_cursor() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN pg_is_in_recovery() THEN h.part[1] || ':'
                WHEN h.ids[51] IS NOT NULL THEN h.ids[51] || ':' || array_to_string(h.ids[1:50], ',')
                ELSE h.part[2] || ':' || h.part[3] END
      FROM (SELECT p.part, string_to_array(p.part[3], ',') AS ids FROM (SELECT string_to_array(pg_current_snapshot()::text, ':')) AS p (part)) AS h
$$;

-- Taken apart. since NULL: it is not of this server's past, and all is to be told.
CREATE OR REPLACE FUNCTION seatcast.since(cursor text, OUT since xid8, OUT running xid8[]) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF $1 ~ '^[0-9]{1,19}:([0-9]{1,19}(,[0-9]{1,19})*)?$' THEN
        running := string_to_array(split_part($1, ':', 2), ',')::xid8[];
        since := split_part($1, ':', 1)::xid8;
        IF since > pg_snapshot_xmax(pg_current_snapshot()) OR coalesce(running[1], since) > pg_snapshot_xmin(pg_current_snapshot()) THEN
            since := NULL;
        END IF;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION seatcast.match_snapshot(match_id bigint)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT c.stand_no::bigint, c.chair_no::bigint, seatcast.shop_status(t.state),
           CASE WHEN t.state = 'RESERVED' THEN seatcast.shop_time(t.reserved_until) END, NULL::text, NULL::timestamptz
      FROM shop.chair c
      LEFT JOIN shop.ticket t ON t.game_no = $1 AND t.chair_no = c.chair_no AND t.state <> 'CANCELED'
     ORDER BY 1, 2;
    as_of := seatcast.read_at('shop.chair', 'shop.ticket');
    next_cursor := seatcast.next_cursor();
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.snapshot(match_id bigint, block_id bigint)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT c.chair_no::bigint, seatcast.shop_status(t.state),
           CASE WHEN t.state = 'RESERVED' THEN seatcast.shop_time(t.reserved_until) END, NULL::text, NULL::timestamptz
      FROM shop.chair c
      LEFT JOIN LATERAL seatcast.live_ticket($1, c.chair_no) AS t ON true
     WHERE c.stand_no = $2
     ORDER BY 1;
    as_of := seatcast.read_at('shop.chair', 'shop.ticket');
    next_cursor := seatcast.next_cursor();
    RETURN NEXT;
END $$;

-- Which chairs were touched; each range of ids has two ends, and a subquery of its own (OFFSET 0), so that the planner takes it for
-- narrow and uses the index whatever the statistics say.
CREATE OR REPLACE FUNCTION seatcast.match_changes(match_id bigint, cursor text)
RETURNS TABLE (block_id bigint, seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    last record := seatcast.since($2);
BEGIN
    IF last.since IS NULL THEN
        RETURN QUERY SELECT w.* FROM seatcast.match_snapshot($1) AS w;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT f.stand_no::bigint, f.chair_no::bigint, seatcast.shop_status(t.state),
           CASE WHEN t.state = 'RESERVED' THEN seatcast.shop_time(t.reserved_until) END, NULL::text, NULL::timestamptz
      FROM unnest(last.since || last.running, '18446744073709551615'::xid8 || last.running) AS r (low, high)
     CROSS JOIN LATERAL (SELECT x.* FROM seatcast.touched x
                          WHERE x.game_no = $1 AND x.changed_xid >= r.low AND x.changed_xid <= r.high OFFSET 0) AS f
      LEFT JOIN LATERAL seatcast.live_ticket($1, f.chair_no) AS t ON true
     ORDER BY 1, 2;
    as_of := seatcast.read_at('seatcast.touched', 'shop.ticket');
    next_cursor := seatcast.next_cursor();
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    last record := seatcast.since($3);
BEGIN
    IF last.since IS NULL THEN
        RETURN QUERY SELECT w.* FROM seatcast.snapshot($1, $2) AS w;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT f.chair_no::bigint, seatcast.shop_status(t.state),
           CASE WHEN t.state = 'RESERVED' THEN seatcast.shop_time(t.reserved_until) END, NULL::text, NULL::timestamptz
      FROM unnest(last.since || last.running, '18446744073709551615'::xid8 || last.running) AS r (low, high)
     CROSS JOIN LATERAL (SELECT x.* FROM seatcast.touched x
                          WHERE x.game_no = $1 AND x.stand_no = $2 AND x.changed_xid >= r.low AND x.changed_xid <= r.high OFFSET 0) AS f
      LEFT JOIN LATERAL seatcast.live_ticket($1, f.chair_no) AS t ON true
     ORDER BY 1;
    as_of := seatcast.read_at('seatcast.touched', 'shop.ticket');
    next_cursor := seatcast.next_cursor();
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION seatcast.matches()
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT g.game_no::bigint, g.title FROM shop.game g WHERE NOT g.canceled ORDER BY g.game_no;
    PERFORM seatcast.read_at('shop.game');
END $$;

CREATE OR REPLACE FUNCTION seatcast.stadium()
RETURNS TABLE (area_id bigint, area_name text, section_id bigint, section_name text, block_id bigint, block_name text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT g.grade_no::bigint, g.title, z.zone_no::bigint, z.title, s.stand_no::bigint, s.title
      FROM shop.grade g
      LEFT JOIN shop.zone z ON z.grade_no = g.grade_no
      LEFT JOIN shop.stand s ON s.zone_no = z.zone_no
     ORDER BY g.grade_no, z.zone_no, s.stand_no;
    PERFORM seatcast.read_at('shop.grade', 'shop.zone', 'shop.stand');
END $$;

CREATE OR REPLACE FUNCTION seatcast.areas()
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT g.grade_no::bigint, g.title FROM shop.grade g ORDER BY g.grade_no;
    PERFORM seatcast.read_at('shop.grade');
END $$;

CREATE OR REPLACE FUNCTION seatcast.sections(area_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT z.zone_no::bigint, z.title FROM shop.zone z WHERE z.grade_no = $1 ORDER BY z.zone_no;
    PERFORM seatcast.read_at('shop.zone');
    IF NOT EXISTS (SELECT FROM shop.grade g WHERE g.grade_no = $1) THEN
        PERFORM seatcast.read_at('shop.grade');
        RAISE EXCEPTION 'no area %', $1 USING ERRCODE = 'P0002';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION seatcast.blocks(section_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT s.stand_no::bigint, s.title FROM shop.stand s WHERE s.zone_no = $1 ORDER BY s.stand_no;
    PERFORM seatcast.read_at('shop.stand');
    IF NOT EXISTS (SELECT FROM shop.zone z WHERE z.zone_no = $1) THEN
        PERFORM seatcast.read_at('shop.zone');
        RAISE EXCEPTION 'no section %', $1 USING ERRCODE = 'P0002';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION seatcast.block_seats(block_id bigint)
RETURNS TABLE (id bigint, row_number integer, seat_number integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT c.chair_no::bigint, ascii(c.row_letter) - 64, c.place
                   FROM shop.chair c WHERE c.stand_no = $1 ORDER BY c.chair_no;
    PERFORM seatcast.read_at('shop.chair');
    IF NOT EXISTS (SELECT FROM shop.stand s WHERE s.stand_no = $1) THEN
        PERFORM seatcast.read_at('shop.stand');
        RAISE EXCEPTION 'no block %', $1 USING ERRCODE = 'P0002';
    END IF;
END $$;

-- 5. The port: allocation. What sql/allocation.sql, which comes next, asks of these tables. ------------------------------

-- The chairs asked for, each once, in order. there: it has a live ticket, which is now locked; known: game and chair exist.
CREATE OR REPLACE FUNCTION seatcast.lock_seats(match_id bigint, seat_ids bigint[])
RETURNS TABLE (seat_id bigint, block_id bigint, known boolean, there boolean, status text, user_id text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH live AS MATERIALIZED (
        SELECT t.chair_no, t.state, t.member_no, t.reserved_until
          FROM shop.ticket t
         WHERE t.game_no = $1 AND t.chair_no = ANY ($2) AND t.state <> 'CANCELED'
         ORDER BY t.chair_no
           FOR NO KEY UPDATE
    )
    SELECT w.id, w.stand_no, w.stand_no IS NOT NULL AND EXISTS (SELECT FROM shop.game g WHERE g.game_no = $1 AND NOT g.canceled),
           l.chair_no IS NOT NULL, seatcast.shop_status(l.state), l.member_no::text, seatcast.shop_time(l.reserved_until)
      FROM (SELECT DISTINCT u.id, (SELECT c.stand_no::bigint FROM shop.chair c WHERE c.chair_no = u.id) AS stand_no FROM unnest($2) AS u (id)) AS w
      LEFT JOIN live l ON l.chair_no = w.id
     ORDER BY w.id;
END $$;

CREATE OR REPLACE FUNCTION seatcast.holds_of(match_id bigint, user_id bigint, but bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT count(*) FROM shop.ticket t
             WHERE t.game_no = $1 AND t.member_no = $2 AND t.chair_no <> ALL ($3)
               AND seatcast.holds(seatcast.shop_status(t.state), seatcast.shop_time(t.reserved_until)));
END $$;

-- To live tickets. What is given back is a canceled ticket, with the member it was of.
CREATE OR REPLACE FUNCTION seatcast.update_seats(match_id bigint, seat_ids bigint[], user_id bigint, status text, ends timestamptz[])
RETURNS TABLE (seat_id bigint, hold_expires_at timestamptz) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    UPDATE shop.ticket t
       SET member_no = coalesce($3, t.member_no), reserved_until = timezone('Asia/Seoul', w.ends), modified_at = timezone('Asia/Seoul', clock_timestamp()),
           state = CASE $4 WHEN 'HOLD' THEN 'RESERVED' WHEN 'OCCUPIED' THEN 'PAID' ELSE 'CANCELED' END
      FROM ROWS FROM (unnest($2), unnest($5)) AS w (id, ends)
     WHERE t.game_no = $1 AND t.chair_no = w.id AND t.state <> 'CANCELED'
    RETURNING t.chair_no::bigint, seatcast.shop_time(t.reserved_until);
END $$;

CREATE OR REPLACE FUNCTION seatcast.insert_seats(match_id bigint, seat_ids bigint[], user_id bigint, status text, ends timestamptz[])
RETURNS TABLE (seat_id bigint, hold_expires_at timestamptz) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO shop.ticket AS t (game_no, chair_no, member_no, state, reserved_until, modified_at)
    SELECT $1, w.id, $3, 'RESERVED', timezone('Asia/Seoul', w.ends), timezone('Asia/Seoul', clock_timestamp())
      FROM ROWS FROM (unnest($2), unnest($5)) AS w (id, ends)
    RETURNING t.chair_no::bigint, seatcast.shop_time(t.reserved_until);
END $$;

-- Two things that sql/roles.sql does next: nobody but the two roles may call these, and each role may call only its own.
