-- SPDX-License-Identifier: ISC
-- explain.sql: what a poll and a reconcile cost, measured inside the functions, in a SCRATCH database:
--
--     createdb scratch && psql -d scratch -f sql/explain.sql 2>&1 | less -S        (as a superuser: it loads auto_explain)
--
-- Ten matches of 40,000 seats, every seat allocated: 400,000 rows. Three seats of block 101 change; then changes(), snapshot() and
-- match_changes() are called and auto_explain shows the plans that ran inside them, with times and buffers; then 200 rounds of churn
-- in that block without a vacuum, and the same again. To look for: no Seq Scan; in changes() rows and buffers in
-- proportion to what changed in the block; in snapshot() one index probe per seat of the block.

\set ON_ERROR_STOP on
\set QUIET on
DO $$
BEGIN
    IF to_regclass('matches') IS NOT NULL OR to_regclass('allocations') IS NOT NULL THEN
        RAISE EXCEPTION 'explain.sql wants an empty scratch database; this one (%) has tables', current_database()
            USING HINT = 'createdb scratch, and psql -d scratch -f sql/explain.sql';
    END IF;
END $$;
\ir install.sql
\ir demo.sql
INSERT INTO matches (id, name) SELECT n, 'Match ' || n FROM generate_series(2, 10) AS n;
TRUNCATE allocations;
INSERT INTO allocations (match_id, seat_id, status)
SELECT m.id, s.id, 'OCCUPIED' FROM matches m, seats s;
VACUUM (ANALYZE) allocations;
VACUUM (ANALYZE) seats;

LOAD 'auto_explain';
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
\pset footer off

SELECT next_cursor FROM seatcast.changes(1, 101, '0') WHERE seat_id IS NULL \gset
UPDATE allocations SET status = 'AVAILABLE' WHERE match_id = 1 AND seat_id IN (101, 102, 103);

\echo '=== changes(1, 101, cursor): three seats changed'
SELECT count(*) FILTER (WHERE seat_id IS NOT NULL) AS seats FROM seatcast.changes(1, 101, :'next_cursor');
SET client_min_messages = log;
SET auto_explain.log_min_duration = 0;
SELECT count(*) FILTER (WHERE seat_id IS NOT NULL) AS seats FROM seatcast.changes(1, 101, :'next_cursor');
\echo '=== snapshot(1, 101): 400 seats'
SELECT count(*) FILTER (WHERE seat_id IS NOT NULL) AS seats FROM seatcast.snapshot(1, 101);
\echo '=== match_changes(1, cursor): the same three seats, of 40,000'
SELECT count(*) FILTER (WHERE seat_id IS NOT NULL) AS seats FROM seatcast.match_changes(1, :'next_cursor');
SET auto_explain.log_min_duration = -1;
SET client_min_messages = warning;

-- Every version but the last is dead, and no vacuum comes between.
ALTER TABLE allocations SET (autovacuum_enabled = off);
DO $$
BEGIN
    FOR i IN 1..200 LOOP
        UPDATE allocations SET status = CASE i % 2 WHEN 0 THEN 'AVAILABLE' ELSE 'HOLD' END WHERE match_id = 1 AND block_id = 101;
        COMMIT;
    END LOOP;
END $$;
SELECT next_cursor FROM seatcast.changes(1, 101, '0') WHERE seat_id IS NULL \gset
UPDATE allocations SET status = 'AVAILABLE' WHERE match_id = 1 AND seat_id IN (101, 102, 103);
SET client_min_messages = log;
SET auto_explain.log_min_duration = 0;
\echo '=== changes(1, 101, cursor): three seats changed, after 80,000 updates of the block without a vacuum'
SELECT count(*) FILTER (WHERE seat_id IS NOT NULL) AS seats FROM seatcast.changes(1, 101, :'next_cursor');
\echo '=== snapshot(1, 101): after the same'
SELECT count(*) FILTER (WHERE seat_id IS NOT NULL) AS seats FROM seatcast.snapshot(1, 101);
SET auto_explain.log_min_duration = -1;
SET client_min_messages = warning;
ALTER TABLE allocations RESET (autovacuum_enabled);
