-- SPDX-License-Identifier: ISC
-- checkup.sql: what `seatcast --check` asks about the tables. Part of install.sql, after changes_exact.sql.
--
-- The roles of seatcast may not look at tables, so a function with its owner's rights does. One row per finding, none when
-- all is well; severity 'error' means that changes can be lost or seats sold twice. A finding ends with what mends it:
-- SQL for the owner of the tables, or a file of sql/. A site with tables of its own may replace or drop it: it is no part
-- of the port.
--
-- Changes nothing. VOLATILE only because PostgreSQL wants that of a function that calls EXPLAIN.

-- The large tables that this function of the port reads from end to end, with the estimated rows; NULL and a reason when its
-- plan cannot be had. What is planned is the SQL function, or the one inside a PL/pgSQL function, and as the server plans it
-- there: without the values of the parameters (hence PREPARE and a generic plan; a plain EXPLAIN with some match and block
-- would show a plan that no poll ever gets), and with the settings of those functions.
-- A small table, or one of a few blocks, is rightly read as a whole. Another owner's function is left alone: planning
-- may call what it calls, and that is not for the rights of this one.
CREATE OR REPLACE FUNCTION seatcast.full_scans(function regprocedure) RETURNS TABLE (tab regclass, n bigint, reason text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    p    record;
    plan jsonb;
BEGIN
    SELECT rtrim(f.prosrc, E'; \t\n') AS body, f.pronargs AS args, oidvectortypes(f.proargtypes) AS types INTO p
      FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang
     WHERE f.proowner = to_regrole(quote_ident(current_user)) AND l.lanname = 'sql' AND f.prosrc <> ''
       AND (f.oid = $1 OR EXISTS (SELECT FROM pg_proc o JOIN pg_language m ON m.oid = o.prolang
                                   WHERE o.oid = $1 AND m.lanname = 'plpgsql' AND f.pronamespace = o.pronamespace
                                     AND f.proretset AND strpos(o.prosrc, format('FROM seatcast.%s(', f.proname)) > 0))
     LIMIT 1;
    IF NOT FOUND OR (SELECT count(*) < 10 FROM site.blocks) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_prepared_statements s WHERE s.name = 'seatcast_checkup') THEN
        DEALLOCATE seatcast_checkup;        -- of a check that was cut off, in a session that a pool has kept
    END IF;
    BEGIN
        EXECUTE format('PREPARE seatcast_checkup (%s) AS %s', p.types, p.body);
        EXECUTE format('EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE seatcast_checkup (%s)', array_to_string(array_fill('NULL'::text, ARRAY[p.args]), ','))
           INTO plan;
        DEALLOCATE seatcast_checkup;
    EXCEPTION WHEN OTHERS THEN
        RETURN QUERY SELECT NULL::regclass, NULL::bigint, SQLERRM;
        RETURN;
    END;
    RETURN QUERY
    SELECT DISTINCT s.rel, s.rows_now, NULL::text
      FROM (SELECT to_regclass(format('%I.%I', node ->> 'Schema', node ->> 'Relation Name'))
              FROM jsonb_path_query(plan, 'strict $.** ? (@."Node Type" == "Seq Scan"
                                           || @."Node Type" like_regex "^Index" && !exists (@."Index Cond"))') AS node) AS r (rel),
           LATERAL seatcast.size_of(r.rel) AS s
     WHERE s.large;
END $$;

-- As the planner counts: the rows per page of the last ANALYZE (some 60 if there was none), times the pages of now. Large is
-- what is worth an index for each poll.
CREATE OR REPLACE FUNCTION seatcast.size_of(tab regclass) RETURNS TABLE (rel regclass, rows_now bigint, large boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT tab, s.n, s.n > 10000 OR s.pages > 100
      FROM (SELECT z.pages, (CASE WHEN c.relpages > 0 AND c.reltuples >= 0 THEN c.reltuples / c.relpages ELSE 60 END * z.pages)::bigint
              FROM pg_class c, LATERAL (SELECT pg_relation_size(c.oid) / current_setting('block_size')::int) AS z (pages)
             WHERE c.oid = tab) AS s (pages, n)
$$;

-- Each write that hold, release and confirm make, tried for real on a seat that is free and undone again: what a table refuses (NOT NULL,
-- CHECK, types, triggers) is told by the table, and not guessed from catalogues. `existing`: only on a seat that has a row, so
-- that no id is burnt. What depends on the data (a user who must exist, a rule that the site raises, a lock) is no finding.
CREATE OR REPLACE FUNCTION seatcast.trial(existing boolean DEFAULT false) RETURNS TABLE (severity text, finding text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    m    bigint;
    seat bigint;
    who  bigint;
    step text;
    word text;
    new  boolean;
BEGIN
    IF pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean OR row_security_active('site.allocations')
       OR NOT seatcast.has_index('site.allocations', '{match_id,seat_id}', 'unique')
       OR NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = 'site.allocations'::regclass AND a.attname = 'user_id' AND NOT a.attisdropped) THEN
        RETURN;
    END IF;
    FOREACH new IN ARRAY CASE WHEN existing THEN '{false}'::boolean[] ELSE '{false,true}' END LOOP
        BEGIN
            step := 'hold a seat';
            who := coalesce((SELECT a.user_id::text FROM site.allocations a WHERE a.user_id::text ~ '^[0-9]{1,18}$' LIMIT 1), '1');
            IF new THEN
                SELECT x.id, s.id INTO m, seat FROM (SELECT y.id FROM site.matches y ORDER BY y.id DESC LIMIT 1) AS x, site.seats s
                 WHERE NOT EXISTS (SELECT FROM site.allocations a WHERE a.match_id = x.id AND a.seat_id = s.id) LIMIT 1;
            ELSE
                SELECT a.match_id, a.seat_id INTO m, seat FROM site.allocations a
                 WHERE coalesce(a.status::text, 'AVAILABLE') = 'AVAILABLE' LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
            END IF;
            CONTINUE WHEN seat IS NULL;
            FOR step, word IN VALUES ('hold a seat', 'HOLD'), ('renew a hold', 'HOLD'), ('confirm', 'OCCUPIED'), ('release', 'AVAILABLE') LOOP
                IF new AND step = 'hold a seat' THEN
                    PERFORM seatcast.insert_seats(m, ARRAY[seat], who, word, ARRAY[now() + interval '1 hour']);
                ELSE
                    PERFORM seatcast.update_seats(m, ARRAY[seat], CASE WHEN word <> 'AVAILABLE' THEN who END, word, CASE word WHEN 'HOLD' THEN ARRAY[now() + interval '2 hours'] END);
                END IF;
                IF word IS DISTINCT FROM (SELECT o.status FROM seatcast.status_of(m, seat) AS o) THEN
                    RAISE EXCEPTION 'what is written as % is not shown as that', word USING ERRCODE = 'SC003';
                END IF;
            END LOOP;
            RAISE EXCEPTION 'all of it is undone' USING ERRCODE = 'SC002';
        EXCEPTION
            WHEN SQLSTATE 'SC002' OR lock_not_available OR foreign_key_violation OR raise_exception THEN
                NULL;
            WHEN OTHERS THEN
                RETURN QUERY SELECT 'error', format('seatcast cannot %s%s: %s: change that, or update_seats and insert_seats in sql/port.sql', step,
                                                    CASE WHEN new AND step = 'hold a seat' THEN ' that has no row yet' ELSE '' END, SQLERRM);
                RETURN;
        END;
    END LOOP;
END $$;

-- What people see: where `public` is meant it goes without saying.
CREATE OR REPLACE FUNCTION seatcast.checkup() RETURNS TABLE (severity text, finding text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT f.severity, regexp_replace(f.finding, E'\\mpublic[.]', '', 'g') FROM seatcast.findings() AS f;
END $$;

CREATE OR REPLACE FUNCTION seatcast.findings() RETURNS TABLE (severity text, finding text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tabs  text[] := '{site.matches,site.areas,site.sections,site.blocks,site.seats,site.allocations}';
    tab   regclass := to_regclass('site.allocations');
    exact boolean;      -- which changes() is installed; NULL: neither, or none
    again text;         -- what installs it again
    n     bigint;
BEGIN
    -- Other people's transactions: the roles of seatcast do not see when these began.
    RETURN QUERY
    SELECT 'warning', format('a transaction of %s is open since %s (UTC) and %s; end it: SELECT pg_terminate_backend(%s)', coalesce(a.usename, '?'),
                             date_trunc('second', a.xact_start AT TIME ZONE 'UTC'),
                             CASE WHEN a.backend_xid IS NULL THEN 'vacuum cannot remove old rows' ELSE 'polls answer with more rows the longer it stays' END, a.pid)
      FROM pg_stat_activity a
     WHERE a.xact_start <= clock_timestamp() - coalesce(nullif(current_setting('seatcast.long_transaction', true), ''), '5 min')::interval
       AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL) AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
     ORDER BY a.xact_start LIMIT 5;

    RETURN QUERY
    SELECT 'error', format('these tables are gone: %s: run sql/install.sql', string_agg(t.name, ', '))
      FROM unnest(tabs) AS t (name) WHERE to_regclass(t.name) IS NULL HAVING count(*) > 0;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT CASE WHEN p.prosrc ~ 'changed_xid' THEN true WHEN p.prosrc ~ 'updated_at' THEN false END INTO exact
      FROM pg_proc p WHERE p.oid = to_regprocedure('seatcast.changes(bigint,bigint,text)');
    again := CASE WHEN exact IS FALSE THEN 'sql/changes_updated_at.sql' ELSE 'sql/install.sql' END;

    RETURN QUERY
    SELECT 'error', format('%s has no column %s, which it had when seatcast was installed: give it back its name, or run %s',
                           tab, string_agg(w.col, ', '), again)
      FROM unnest('{match_id,seat_id,user_id,status,hold_expires_at}'::text[]
                  || CASE WHEN exact THEN '{block_id,changed_xid}' WHEN NOT exact THEN '{updated_at}' ELSE '{}' END::text[]) AS w (col)
     WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = w.col AND NOT a.attisdropped)
    HAVING count(*) > 0;
    IF FOUND THEN
        RETURN;
    END IF;

    -- As sql/tracking.sql makes it: ROW 1 + BEFORE 2 + INSERT 4 + UPDATE 16, for every row and column.
    RETURN QUERY
    SELECT 'error', format('the trigger that tracks changes of %s is missing, not ENABLE ALWAYS, or not for every INSERT and UPDATE: run sql/install.sql', tab)
     WHERE NOT EXISTS (SELECT FROM pg_trigger t
                        WHERE t.tgrelid = tab AND t.tgenabled = 'A' AND t.tgtype = 23 AND t.tgqual IS NULL AND t.tgattr::text = ''
                          AND t.tgfoid = to_regprocedure('seatcast.track()'))
       AND exact;

    RETURN QUERY
    SELECT 'error', format('row level security hides rows of %s from %s, the owner of the functions: ALTER ROLE %I BYPASSRLS', t.name, current_user, current_user)
      FROM unnest(tabs) AS t (name) WHERE row_security_active(t.name);
    IF FOUND THEN
        RETURN;     -- nothing else that is asked of the rows would be true
    END IF;
    -- A dump does not have the settings of its database.
    RETURN QUERY
    SELECT 'error', format('times without zone were those of %s when seatcast was installed, and are taken for UTC: ALTER DATABASE %I SET seatcast.time_zone = %L', z.was, current_database(), z.was)
      FROM (SELECT substring(obj_description(to_regnamespace('seatcast'), 'pg_namespace') FROM 'times without zone are ([^ ]+)')) AS z (was)
     WHERE z.was <> 'UTC' AND coalesce(current_setting('seatcast.time_zone', true), '') = '';

    IF getdatabaseencoding() = 'SQL_ASCII' THEN
        FOREACH again IN ARRAY tabs[1:4] LOOP
            BEGIN
                EXECUTE format('SELECT count(convert_from(convert_to(name::text, ''SQL_ASCII''), ''UTF8'')) FROM %s', again) INTO n;
            EXCEPTION WHEN OTHERS THEN
                RETURN QUERY SELECT 'error', format('names in %s are not UTF-8, in a database that says of no text what it is (SQL_ASCII): dump it, and restore it into one of the right encoding', again);
            END;
        END LOOP;
        again := CASE WHEN exact IS FALSE THEN 'sql/changes_updated_at.sql' ELSE 'sql/install.sql' END;
    END IF;

    -- Two buyers meet at the unique index.
    IF NOT seatcast.has_index(tab, '{match_id,seat_id}', 'unique') THEN
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE match_id IS NOT NULL AND seat_id IS NOT NULL '
                       'GROUP BY match_id, seat_id HAVING count(*) > 1) AS twice', tab) INTO n;
        RETURN QUERY
        SELECT 'error', format('%s seats have more than one row in %s, so that nothing keeps two buyers apart: leave one of each '
                               '(SELECT match_id, seat_id, count(*) FROM %s GROUP BY 1, 2 HAVING count(*) > 1), then run sql/install.sql', n, tab, tab)
         WHERE n > 0
        UNION ALL
        SELECT 'error', format('no unique index on %s (match_id, seat_id), so that nothing keeps two buyers apart: CREATE UNIQUE INDEX CONCURRENTLY ON %s (match_id, seat_id)', tab, tab)
         WHERE n = 0;
    ELSE
        RETURN QUERY
        SELECT 'error', format('seatcast.hold refuses all: it was installed while %s had no unique index: run %s', tab, again)
          FROM pg_proc p
         WHERE p.oid = to_regprocedure('seatcast.hold_seats(bigint,bigint,bigint[],interval,integer,interval)') AND p.prosrc ~ 'object_not_in_prerequisite_state';
    END IF;

    RETURN QUERY
    SELECT 'warning', format('no index on %s (%s): %s reads more than it needs: CREATE INDEX CONCURRENTLY ON %s (%s)',
                             to_regclass(w.tab), w.cols, w.who, to_regclass(w.tab), w.cols)
      FROM (VALUES ('site.allocations', 'match_id, block_id, changed_xid', 'every poll', exact),
                   ('site.allocations', 'match_id, changed_xid', 'every poll of a match', exact),
                   ('site.allocations', 'updated_at', 'every poll', NOT exact),
                   ('site.seats', 'id', 'every change', true),
                   ('site.seats', 'block_id', 'every snapshot', true)) AS w (tab, cols, who, wanted)
     WHERE w.wanted AND NOT seatcast.has_index(to_regclass(w.tab), string_to_array(w.cols, ', '), 'order')
    UNION ALL
    -- What a CREATE INDEX CONCURRENTLY has left that failed: it costs every write and serves nobody.
    SELECT 'warning', format('the index %s is invalid, what is left of a command that failed: %s %s', i.indexrelid::regclass,
                             CASE WHEN c.relname ~ '_cc(new|old)[0-9]*$' THEN 'DROP INDEX CONCURRENTLY' ELSE 'REINDEX INDEX CONCURRENTLY' END, i.indexrelid::regclass)
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid IN (SELECT to_regclass(t.name) FROM unnest(tabs) AS t (name)) AND NOT i.indisvalid
       AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.index_relid = i.indexrelid)
    UNION ALL
    SELECT 'warning', format('%s has about %s rows and no statistics, so that plans are guesses: ANALYZE %s', s.rel, s.rows_now, s.rel)
      FROM (VALUES ('site.allocations'), ('site.seats')) AS t (name), LATERAL seatcast.size_of(to_regclass(t.name)) AS s
      JOIN pg_class c ON c.oid = s.rel JOIN pg_namespace m ON m.oid = c.relnamespace
     WHERE s.large AND NOT EXISTS (SELECT FROM pg_stats p WHERE p.schemaname = m.nspname AND p.tablename = c.relname);

    -- Plans.
    RETURN QUERY
    WITH scans AS MATERIALIZED (
        SELECT f.name, x.* FROM unnest(ARRAY['seatcast.changes(bigint,bigint,text)', 'seatcast.snapshot(bigint,bigint)', 'seatcast.match_changes(bigint,text)']) AS f (name),
               LATERAL seatcast.full_scans(to_regprocedure(f.name)) AS x
    )
    SELECT 'warning', format('%s reads all of %s (about %s rows) each time: it lacks an index: run %s', x.name, x.tab, x.n, again)
      FROM scans x WHERE x.tab IS NOT NULL
    UNION ALL
    SELECT 'warning', format('the plan of %s cannot be looked at: %s', x.name, x.reason)
      FROM scans x WHERE x.tab IS NULL;

    -- Triggers of the site's fire with the rights of the functions' owner, and look into its schemas if bind.sql has put them on the
    -- path. Who can put something there can be that owner.
    RETURN QUERY
    WITH path AS (
        SELECT DISTINCT m.oid, m.nspname, m.nspowner, m.nspacl, p.proowner
          FROM pg_proc p, unnest(p.proconfig) AS c (line), unnest(string_to_array(replace(substr(c.line, 13), '"', ''), ', ')) AS s (name)
          JOIN pg_namespace m ON m.nspname = s.name AND m.nspname <> 'pg_catalog'
         WHERE p.pronamespace = 'seatcast'::regnamespace AND c.line LIKE 'search_path=%'
    )
    SELECT DISTINCT 'warning', format('%s may create objects in the schema %I, where triggers of %s look for things with the rights of %s: REVOKE CREATE ON SCHEMA %I FROM %s',
                                      CASE g.grantee WHEN 0 THEN 'everybody' ELSE g.grantee::regrole::text END, s.nspname, tab, s.proowner::regrole,
                                      s.nspname, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END)
      FROM path s CROSS JOIN LATERAL aclexplode(coalesce(s.nspacl, acldefault('n', s.nspowner))) AS g
      LEFT JOIN pg_roles o ON o.oid = g.grantee
     WHERE g.privilege_type = 'CREATE' AND g.grantee NOT IN (s.nspowner, s.proowner) AND o.rolsuper IS NOT TRUE
    UNION ALL
    SELECT 'warning', format('the trigger %s of %s was not there when seatcast was installed, and may look in vain for things when seatcast writes: run %s', t.tgname, tab, again)
      FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE t.tgrelid = tab AND NOT t.tgisinternal AND p.pronamespace <> 'seatcast'::regnamespace AND NOT EXISTS (SELECT FROM path)
       AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=%');

    -- Who may read or write the tables without the functions: as their owner, by a grant to the role or to everybody, or by a
    -- role it is in.
    RETURN QUERY
    WITH roles AS (
        SELECT o.oid, o.rolname FROM pg_roles o WHERE o.rolname IN ('seatcast_reader', 'seatcast_writer') AND NOT o.rolsuper
    ), tables AS (
        SELECT c.* FROM unnest(tabs) AS t (name) JOIN pg_class c ON c.oid = to_regclass(t.name)
    ), grants AS (
        SELECT c.oid::regclass AS tab, c.relowner, g.grantee FROM tables c CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS g
         WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
         GROUP BY c.oid, c.relowner, g.grantee
    )
    SELECT 'warning', format('everybody may read or write %s without the functions: REVOKE ALL ON %s FROM PUBLIC', g.tab, g.tab)
      FROM grants g WHERE g.grantee = 0
    UNION ALL
    SELECT 'warning', format('%s may read or write %s without the functions: REVOKE ALL ON %s FROM %s', r.rolname, g.tab, g.tab, r.rolname)
      FROM grants g JOIN roles r ON r.oid = g.grantee WHERE g.relowner <> r.oid
    UNION ALL
    SELECT DISTINCT 'warning', format('%s is a member of %s, which may read or write tables: REVOKE %s FROM %s', r.rolname, g.grantee::regrole, g.grantee::regrole, r.rolname)
      FROM grants g JOIN roles r ON g.grantee NOT IN (0, r.oid) AND pg_has_role(r.oid, g.grantee, 'USAGE')
     WHERE g.grantee NOT IN (SELECT oid FROM roles)
    UNION ALL
    SELECT 'warning', format('%s owns %s and may do everything with it: ALTER TABLE %s OWNER TO %I', r.rolname, c.oid::regclass, c.oid::regclass, pg_get_userbyid(d.datdba))
      FROM tables c JOIN roles r ON r.oid = c.relowner JOIN pg_database d ON d.datname = current_database();

    IF exact THEN
        -- Rows restored from another cluster's dump: ids that no transaction here has had yet.
        EXECUTE format('SELECT count(*) FROM %s WHERE changed_xid >= pg_snapshot_xmax(pg_current_snapshot())', tab) INTO n;
        RETURN QUERY
        SELECT 'warning', format('%s rows of %s carry changed_xid of another cluster and come with every poll: '
                                 'UPDATE %s SET changed_xid = NULL WHERE changed_xid >= ''%s''', n, tab, tab, pg_snapshot_xmax(pg_current_snapshot()))
         WHERE n > 0;
    END IF;
END $$;
