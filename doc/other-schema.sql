-- other-schema.sql: the port functions of seatcast for the tables of another application; other-schema.md explains them.
--
--     psql -1 -v ON_ERROR_STOP=1 -f doc/other-schema.sql -f sql/roles.sql                (functions, tracking, roles)
--     psql -1 -v ON_ERROR_STOP=1 -v sample=1 -f doc/other-schema.sql -f sql/roles.sql    (and the application to try it on)
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
END $$;

CREATE OR REPLACE FUNCTION seatcast.touch(game int, chair int)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
    INSERT INTO seatcast.touched AS t (game_no, chair_no, stand_no, changed_xid)
    SELECT $1, c.chair_no, c.stand_no, pg_current_xact_id() FROM chair c WHERE c.chair_no = $2
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
UPDATE seatcast.touched SET changed_xid = pg_current_xact_id() WHERE changed_xid > pg_current_xact_id();

-- 3. Two words of translation. Inlined by the planner: hence SQL, and no options. ---------------------------------------

-- The shop's word for a seatcast status. What we don't know is not for sale.
CREATE OR REPLACE FUNCTION seatcast.shop_status(state text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE coalesce($1, 'CANCELED') WHEN 'CANCELED' THEN 'AVAILABLE' WHEN 'RESERVED' THEN 'HOLD' ELSE 'OCCUPIED' END
$$;

-- The shop's clock on the wall, as an instant.
CREATE OR REPLACE FUNCTION seatcast.shop_time(stored timestamp) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT $1 AT TIME ZONE 'Asia/Seoul'
$$;

-- 4. The port: reads. ---------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION seatcast.block_exists(match_id bigint, block_id bigint)
RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
    SELECT EXISTS (SELECT FROM game g WHERE g.game_no = $1 AND NOT g.canceled)
       AND EXISTS (SELECT FROM stand s WHERE s.stand_no = $2)
$$;

CREATE OR REPLACE FUNCTION seatcast.snapshot(match_id bigint, block_id bigint)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
    SELECT c.chair_no::bigint, seatcast.shop_status(t.state),
           CASE WHEN t.state = 'RESERVED' THEN seatcast.shop_time(t.reserved_until) END, NULL::text, NULL::timestamptz
      FROM chair c
      LEFT JOIN ticket t ON t.game_no = $1 AND t.chair_no = c.chair_no AND t.state <> 'CANCELED'
     WHERE c.stand_no = $2
    UNION ALL
    SELECT NULL, NULL, NULL, pg_snapshot_xmin(pg_current_snapshot())::text, clock_timestamp()
     ORDER BY 1 NULLS LAST
$$;

CREATE OR REPLACE FUNCTION seatcast.changes(match_id bigint, block_id bigint, cursor text)
RETURNS TABLE (seat_id bigint, status text, hold_expires_at timestamptz, next_cursor text, as_of timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
    WITH here AS MATERIALIZED (
        SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin
    ), since AS MATERIALIZED (     -- NULL: the cursor is not of this server's past
        SELECT CASE WHEN $3 ~ '^[0-9]{1,19}$' THEN CASE WHEN $3::xid8 <= h.xmin THEN $3::xid8 END END AS xid FROM here h
    )
    SELECT f.chair_no::bigint, seatcast.shop_status(t.state),
           CASE WHEN t.state = 'RESERVED' THEN seatcast.shop_time(t.reserved_until) END, NULL::text, NULL::timestamptz
      FROM seatcast.touched f
      LEFT JOIN ticket t ON t.game_no = f.game_no AND t.chair_no = f.chair_no AND t.state <> 'CANCELED'
     WHERE f.game_no = $1 AND f.stand_no = $2 AND f.changed_xid >= (SELECT s.xid FROM since s)
    UNION ALL
    SELECT w.seat_id, w.status, w.hold_expires_at, NULL, NULL
      FROM seatcast.snapshot($1, $2) AS w
     WHERE w.seat_id IS NOT NULL AND (SELECT s.xid FROM since s) IS NULL
    UNION ALL
    SELECT NULL, NULL, NULL, h.xmin::text, clock_timestamp() FROM here h
     ORDER BY 1 NULLS LAST
$$;

CREATE OR REPLACE FUNCTION seatcast.areas()
RETURNS TABLE (id bigint, name text) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
    SELECT g.grade_no::bigint, g.title FROM grade g ORDER BY g.grade_no
$$;

CREATE OR REPLACE FUNCTION seatcast.sections(area_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM grade g WHERE g.grade_no = $1) THEN
        RAISE EXCEPTION 'no area %', $1 USING ERRCODE = 'P0002';
    END IF;
    RETURN QUERY SELECT z.zone_no::bigint, z.title FROM zone z WHERE z.grade_no = $1 ORDER BY z.zone_no;
END $$;

CREATE OR REPLACE FUNCTION seatcast.blocks(section_id bigint)
RETURNS TABLE (id bigint, name text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM zone z WHERE z.zone_no = $1) THEN
        RAISE EXCEPTION 'no section %', $1 USING ERRCODE = 'P0002';
    END IF;
    RETURN QUERY SELECT s.stand_no::bigint, s.title FROM stand s WHERE s.zone_no = $1 ORDER BY s.stand_no;
END $$;

CREATE OR REPLACE FUNCTION seatcast.block_seats(block_id bigint)
RETURNS TABLE (id bigint, row_number integer, seat_number integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM stand s WHERE s.stand_no = $1) THEN
        RAISE EXCEPTION 'no block %', $1 USING ERRCODE = 'P0002';
    END IF;
    RETURN QUERY SELECT c.chair_no::bigint, ascii(c.row_letter) - 64, c.place
                   FROM chair c WHERE c.stand_no = $1 ORDER BY c.chair_no;
END $$;

-- 5. The port: allocation. One statement decides; the unique index and the row's lock keep two buyers apart. ------------

CREATE OR REPLACE FUNCTION seatcast.hold(match_id bigint, seat_id bigint, user_id bigint, duration interval)
RETURNS TABLE (outcome text, hold_expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
BEGIN
    RETURN QUERY
    INSERT INTO ticket AS t (game_no, chair_no, member_no, state, reserved_until, modified_at)
    SELECT g.game_no, c.chair_no, $3, 'RESERVED', timezone('Asia/Seoul', clock_timestamp() + $4),
           timezone('Asia/Seoul', clock_timestamp())
      FROM game g, chair c WHERE g.game_no = $1 AND NOT g.canceled AND c.chair_no = $2
    ON CONFLICT (game_no, chair_no) WHERE state <> 'CANCELED' DO UPDATE
       SET member_no = excluded.member_no, reserved_until = timezone('Asia/Seoul', clock_timestamp() + $4),
           modified_at = timezone('Asia/Seoul', clock_timestamp())
     WHERE t.state = 'RESERVED' AND (t.member_no = excluded.member_no
                                     OR seatcast.shop_time(t.reserved_until) <= clock_timestamp())
    RETURNING 'ok', seatcast.shop_time(t.reserved_until);
    IF NOT FOUND THEN
        outcome := CASE WHEN EXISTS (SELECT FROM game g WHERE g.game_no = $1 AND NOT g.canceled)
                         AND EXISTS (SELECT FROM chair c WHERE c.chair_no = $2) THEN 'conflict' ELSE 'unknown' END;
        hold_expires_at := NULL;
        RETURN NEXT;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION seatcast.release(match_id bigint, seat_id bigint, user_id bigint)
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
BEGIN
    UPDATE ticket t SET state = 'CANCELED', modified_at = timezone('Asia/Seoul', clock_timestamp())
     WHERE t.game_no = $1 AND t.chair_no = $2 AND t.member_no = $3 AND t.state = 'RESERVED'
       AND (t.reserved_until IS NULL OR seatcast.shop_time(t.reserved_until) > clock_timestamp());
    RETURN CASE WHEN FOUND THEN 'ok'
                WHEN EXISTS (SELECT FROM game g WHERE g.game_no = $1)
                     AND EXISTS (SELECT FROM chair c WHERE c.chair_no = $2) THEN 'conflict'
                ELSE 'unknown' END;
END $$;

CREATE OR REPLACE FUNCTION seatcast.confirm(match_id bigint, user_id bigint, seat_ids bigint[])
RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, shop, pg_temp AS $$
BEGIN
    WITH mine AS MATERIALIZED (                 -- locked in one order: two confirmations cannot deadlock
        SELECT t.ticket_no, t.member_no, t.state, t.reserved_until
          FROM ticket t
         WHERE t.game_no = $1 AND t.chair_no = ANY ($3) AND t.state <> 'CANCELED'
         ORDER BY t.chair_no
           FOR UPDATE
    ), verdict AS MATERIALIZED (                -- after the wait for the locks
        SELECT count(*) = (SELECT count(DISTINCT w.id) FROM unnest($3) AS w (id))
               AND coalesce(bool_and(m.member_no = $2 AND m.state = 'RESERVED'
                   AND (m.reserved_until IS NULL OR seatcast.shop_time(m.reserved_until) > clock_timestamp())), false) AS good
          FROM mine m
    )
    UPDATE ticket t
       SET state = 'PAID', reserved_until = NULL, modified_at = timezone('Asia/Seoul', clock_timestamp())
      FROM mine m WHERE t.ticket_no = m.ticket_no AND (SELECT v.good FROM verdict v);
    RETURN CASE WHEN FOUND THEN 'ok'
                WHEN EXISTS (SELECT FROM game g WHERE g.game_no = $1)
                     AND NOT EXISTS (SELECT FROM unnest($3) AS w (id)
                                      WHERE NOT EXISTS (SELECT FROM chair c WHERE c.chair_no = w.id)) THEN 'conflict'
                ELSE 'unknown' END;
END $$;

-- Two things that sql/roles.sql does next: nobody but the two roles may call these, and each role may call only its own.
