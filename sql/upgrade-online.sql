-- SPDX-License-Identifier: ISC
-- upgrade-online.sql: make a large table of allocations ready for install.sql while its writers write.
--
--     psql -v ON_ERROR_STOP=1 -f sql/upgrade-online.sql        (not within a transaction: it commits as it goes)
--
-- install.sql does all of it under one lock, which is a moment for a table of thousands of rows and minutes for one of millions.
-- Here each step is small, or waits for nobody who writes:
--   1. indexes on seats, CONCURRENTLY, where they are missing;
--   2. columns and trigger: a lock for milliseconds, asked for with 300 ms of patience and again, so that nobody waits
--      behind it for longer; from then on new rows are complete;
--   3. block_id of the old rows, in batches of about a tenth of a second, which pass over rows that somebody holds;
--   4. indexes on allocations, CONCURRENTLY;
--   5. ANALYZE, and install.sql, which finds nothing left to alter.
-- Killed at any moment: run it again, it goes on where it was. Run again when all is done, it does nothing but look. It says what
-- it does. Steps 1 and 4 wait for transactions that are open, however long; the table grows by about its size (step 3
-- writes each row once), for autovacuum to use again.
--
-- Triggers of the site's do not fire in step 3 (session_replication_role), which needs a superuser; who is none is told so, if there are any.

\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
BEGIN;
\ir site.sql
DO $$ BEGIN PERFORM pg_advisory_xact_lock(x'73656174'::bigint); END $$;
\ir tables.sql
\ir schema.sql
\ir track.sql
\ir bind.sql
SELECT current_setting('seatcast.site') AS seatcast_site, seatcast.site_table('allocations') AS tab, seatcast.site_table('seats') AS seats \gset
COMMIT;
SET search_path = pg_catalog, pg_temp;
SELECT set_config('seatcast.site', :'seatcast_site', false) AS seatcast_site \gset
SET client_min_messages = notice;

-- 1. What a killed CREATE INDEX CONCURRENTLY left costs every write and serves nobody.
SELECT format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid IN (seatcast.site_table('allocations'), seatcast.site_table('seats')) AND NOT i.indisvalid
   AND c.relname ~ '^(seats|allocations)_seatcast_|^idx_allocations_updated_at$'
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) \gexec
\echo 'upgrade-online: 1. indexes on' :seats
SELECT format('CREATE INDEX CONCURRENTLY %I ON %s (%s)', w.name, seatcast.site_table('seats'), w.cols)
  FROM (VALUES ('seats_seatcast_block', 'block_id, id'), ('seats_seatcast_id', 'id')) AS w (name, cols)
 WHERE NOT seatcast.has_index(seatcast.site_table('seats'), string_to_array(w.cols, ', '), 'order') \gexec

\echo 'upgrade-online: 2. columns and trigger of' :tab
DO $$
DECLARE
    began timestamptz := clock_timestamp();
    said  timestamptz := clock_timestamp();
BEGIN
    PERFORM set_config('lock_timeout', '300ms', true);
    LOOP
        BEGIN
            PERFORM seatcast.add_tracking(seatcast.site_table('allocations'));
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > said + interval '10 s' THEN
                said := clock_timestamp();
                RAISE NOTICE 'upgrade-online: % is in use since % without a gap of a moment: trying on', seatcast.site_table('allocations'), date_trunc('second', began);
            END IF;
        END;
        PERFORM pg_sleep(0.5);
    END LOOP;
END $$;

\echo 'upgrade-online: 3. block_id of the rows that were there before'
DO $$
DECLARE
    tab    regclass := seatcast.site_table('allocations');
    seats  regclass := seatcast.site_table('seats');
    pages  bigint;          -- of the table when a pass began; what comes behind them was written by the trigger
    page   bigint;
    step   bigint := 16;
    rows   bigint;
    total  bigint := 0;
    left_  boolean;
    began  timestamptz := clock_timestamp();
    said   timestamptz := clock_timestamp();
    at     timestamptz;
    wrong  text := 'a.changed_xid IS NULL OR a.changed_xid >= pg_snapshot_xmax(pg_current_snapshot()) OR s.block_id IS NOT NULL AND a.block_id IS DISTINCT FROM s.block_id';
BEGIN
    BEGIN
        PERFORM set_config('session_replication_role', 'replica', false);
    EXCEPTION WHEN insufficient_privilege THEN
        IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = tab AND NOT t.tgisinternal AND t.tgname <> 'zz_seatcast_track'
                      AND t.tgenabled IN ('O', 'A') AND t.tgtype::int & 16 <> 0) THEN
            RAISE EXCEPTION 'upgrade-online: % has triggers of others, which would fire for each row', tab
                USING ERRCODE = 'insufficient_privilege', HINT = 'Run this file as a superuser.';
        END IF;
    END;
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s a LEFT JOIN %s s ON s.id = a.seat_id WHERE %s)', tab, seats, wrong) INTO left_;
        EXIT WHEN NOT left_;
        pages := pg_relation_size(tab) / current_setting('block_size')::bigint;
        page := 0;
        WHILE page <= pages LOOP
            at := clock_timestamp();
            -- The trigger fills in block and id; rows that somebody holds are for the next pass.
            EXECUTE format('UPDATE %s r SET block_id = w.block_id FROM (SELECT a.ctid AS row_at, coalesce(s.block_id, a.block_id) AS block_id '
                           'FROM %s a LEFT JOIN %s s ON s.id = a.seat_id WHERE a.ctid >= %L AND a.ctid < %L AND (%s) FOR NO KEY UPDATE OF a SKIP LOCKED) AS w '
                           'WHERE r.ctid = w.row_at', tab, tab, seats, format('(%s,0)', page), format('(%s,0)', page + step), wrong);
            GET DIAGNOSTICS rows = ROW_COUNT;
            COMMIT;
            total := total + rows;
            page := page + step;
            -- Who wants one of these rows has waited as long as the batch took.
            step := CASE WHEN clock_timestamp() > at + interval '150 ms' THEN greatest(step / 2, 1)
                         WHEN clock_timestamp() < at + interval '60 ms' THEN least(step * 2, 4096) ELSE step END;
            IF clock_timestamp() > said + interval '5 s' THEN
                said := clock_timestamp();
                RAISE NOTICE 'upgrade-online: % of % pages, % rows written, % s', least(page, pages), pages, total, round(extract(epoch FROM said - began));
            END IF;
        END LOOP;
        IF rows = 0 THEN
            PERFORM pg_sleep(0.2);
        END IF;
    END LOOP;
    RAISE NOTICE 'upgrade-online: % rows written in % s', total, round(extract(epoch FROM clock_timestamp() - began));
END $$;
RESET session_replication_role;

\echo 'upgrade-online: 4. indexes on' :tab
SELECT format('CREATE INDEX CONCURRENTLY %I ON %s (%s) %s', w.name, seatcast.site_table('allocations'), w.cols, w.cond)
  FROM (VALUES ('allocations_seatcast_block', 'match_id, block_id, changed_xid', ''), ('allocations_seatcast_match', 'match_id, changed_xid', ''),
               ('allocations_seatcast_user', 'user_id', 'WHERE user_id IS NOT NULL'), ('idx_allocations_updated_at', 'updated_at', '')) AS w (name, cols, cond)
 WHERE NOT seatcast.has_index(seatcast.site_table('allocations'), string_to_array(w.cols, ', '), 'partial')
    OR w.name ~ '^idx' AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                                        WHERE i.indrelid = seatcast.site_table('allocations') AND c.relname = w.name) \gexec
SELECT NOT seatcast.has_index(seatcast.site_table('allocations'), '{match_id,seat_id}', 'unique') AS twice \gset
\if :twice
SELECT EXISTS (SELECT FROM :tab WHERE match_id IS NOT NULL AND seat_id IS NOT NULL GROUP BY match_id, seat_id HAVING count(*) > 1) AS twice \gset
SELECT format('CREATE %s INDEX CONCURRENTLY %I ON %s (match_id, seat_id)', CASE WHEN :'twice' THEN '' ELSE 'UNIQUE' END,
              CASE WHEN :'twice' THEN 'allocations_match_seat_not_unique' ELSE 'allocations_seatcast_seat' END, seatcast.site_table('allocations'))
 WHERE NOT (:'twice' AND seatcast.has_index(seatcast.site_table('allocations'), '{match_id,seat_id}', 'any')) \gexec
\endif

SELECT format('COMMENT ON INDEX %s IS %L', i.indexrelid::regclass, 'added by seatcast')
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid IN (seatcast.site_table('allocations'), seatcast.site_table('seats')) AND c.relname ~ '^(seats|allocations)_seatcast_' \gexec
\echo 'upgrade-online: 5. ANALYZE and install.sql'
ANALYZE :tab;
ANALYZE :seats;
RESET search_path;
SELECT set_config('search_path', (SELECT string_agg(DISTINCT s.value, ', ') FROM pg_catalog.jsonb_each_text(:'seatcast_site'::jsonb) AS s (key, value)), false) AS search_path \gset
\ir install.sql
\echo 'upgrade-online: done'
\unset tab
\unset seats
\unset twice
\unset seatcast_site
