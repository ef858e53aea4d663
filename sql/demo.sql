-- SPDX-License-Identifier: ISC
-- demo.sql: a stadium to play with. Match 1, 4 areas, 20 sections, 100 blocks (101 to 200) of 20 rows x 20 seats: 40,000
-- seats with ids 1 to 40000, block 101 has seats 1 to 400 and no allocations; elsewhere some seats are sold or held.
--
--     psql -v ON_ERROR_STOP=1 -f sql/demo.sql        (after install.sql; takes a second or two)
--
-- Run again, it resets the allocations of match 1 and gives the stadium its names back; other matches are not touched.

\set ON_ERROR_STOP on
\set QUIET on
\set seatcast_encoding :ENCODING
\encoding UTF8
BEGIN;
SET LOCAL client_min_messages = warning;

INSERT INTO matches (id, name) VALUES (1, '데모 경기: 홈 대 원정 (Demo match: home vs away)')
    ON CONFLICT (id) DO UPDATE SET name = excluded.name;

CREATE TEMPORARY TABLE demo_area ON COMMIT DROP AS
SELECT * FROM (VALUES
    (1, '1루 내야석', 'First base infield'),
    (2, '3루 내야석', 'Third base infield'),
    (3, '중앙 지정석', 'Central reserved'),
    (4, '외야석', 'Outfield')) AS a (id, ko, en);

INSERT INTO areas (id, name)
SELECT id, format('%s (%s)', ko, en) FROM demo_area
    ON CONFLICT (id) DO UPDATE SET name = excluded.name;

INSERT INTO sections (id, area_id, name)
SELECT (a.id - 1) * 5 + n, a.id, format('%s %s구역 (%s, section %s)', a.ko, n, a.en, n)
  FROM demo_area a, generate_series(1, 5) AS n
    ON CONFLICT (id) DO UPDATE SET area_id = excluded.area_id, name = excluded.name;

INSERT INTO blocks (id, section_id, name)
SELECT b, (b - 101) / 5 + 1, format('%s블록 (Block %s)', b, b)
  FROM generate_series(101, 200) AS b
    ON CONFLICT (id) DO UPDATE SET section_id = excluded.section_id, name = excluded.name;

INSERT INTO seats (id, block_id, row_number, seat_number)
SELECT i + 1, 101 + i / 400, i % 400 / 20 + 1, i % 20 + 1
  FROM generate_series(0, 39999) AS i
    ON CONFLICT (id) DO UPDATE
       SET block_id = excluded.block_id, row_number = excluded.row_number, seat_number = excluded.seat_number
     WHERE (seats.block_id, seats.row_number, seats.seat_number)
           IS DISTINCT FROM (excluded.block_id, excluded.row_number, excluded.seat_number);

-- About one seat in five sold, in pairs, and one in forty held for the next minutes; the same ones at every load.
DELETE FROM allocations WHERE match_id = 1;
INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at)
SELECT 1, id, 100000 + pair, 'OCCUPIED', NULL
  FROM (SELECT id, (id - 1) / 2 AS pair FROM seats WHERE id BETWEEN 401 AND 40000) AS s
 WHERE pair * 7919 % 1000 < 200;
INSERT INTO allocations (match_id, seat_id, user_id, status, hold_expires_at)
SELECT 1, id, 100000 + pair, 'HOLD',
       seatcast.as_stored(now() + interval '1 minute' + id % 540 * interval '1 second',
                          (SELECT hold_expires_at FROM allocations LIMIT 0))
  FROM (SELECT id, (id - 1) / 2 AS pair FROM seats WHERE id BETWEEN 401 AND 40000) AS s
 WHERE pair * 7919 % 1000 >= 975;

-- Ids were given by hand: move the sequences behind them (a table without one is passed over).
DO $$
DECLARE
    t text;
    n bigint;
BEGIN
    FOREACH t IN ARRAY '{matches,areas,sections,blocks,seats}'::text[] LOOP
        IF pg_get_serial_sequence(t, 'id') IS NOT NULL THEN
            EXECUTE format('SELECT max(id) FROM %I', t) INTO n;
            PERFORM setval(pg_get_serial_sequence(t, 'id'), greatest(n, nextval(pg_get_serial_sequence(t, 'id'))));
        END IF;
    END LOOP;
END $$;
COMMIT;
ANALYZE matches, areas, sections, blocks, seats, allocations;
\encoding :seatcast_encoding
\unset seatcast_encoding
