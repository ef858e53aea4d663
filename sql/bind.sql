-- SPDX-License-Identifier: ISC
-- bind.sql: the functions meet the tables. Part of install.sql and of changes_*.sql, after all functions.
--
-- site.NAME becomes the schema in which schema.sql found the table NAME; at the comments /* version */ comes the column that
-- the site's own optimistic locks compare (JPA's @Version and its like), if there is one: what seatcast writes moves it on.
-- In a search_path `site` becomes the tables' schemas if allocations has triggers of others that need one, and nothing if not.
-- The bodies are checked now: a function that does not fit the tables is found by who installs, not by the first buyer.

DO $$
DECLARE
    site    jsonb := current_setting('seatcast.site')::jsonb;
    f       record;
    body    text;
    t       text;
    version text;
    path    text := '';
BEGIN
    -- But where only streams are wanted (changes_updated_at.sql) there may be no user_id, which those that sell declare.
    PERFORM set_config('check_function_bodies', CASE WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = seatcast.site_table('allocations')
                                                                     AND a.attname = 'user_id' AND NOT a.attisdropped) THEN 'on' ELSE 'off' END, true);
    SELECT quote_ident(a.attname) INTO version
      FROM pg_attribute a
     WHERE a.attrelid = seatcast.site_table('allocations') AND a.attnum > 0 AND NOT a.attisdropped
       AND a.attname = ANY (seatcast.version_columns())
       AND a.atttypid = ANY ('{int8,int4,int2}'::regtype[])
     ORDER BY a.attnum LIMIT 1;
    IF EXISTS (SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
                WHERE g.tgrelid = seatcast.site_table('allocations') AND NOT g.tgisinternal AND p.pronamespace <> 'seatcast'::regnamespace
                  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=%')) THEN
        SELECT string_agg(DISTINCT quote_literal((parse_ident(s.value))[1]), ', ') || ', ' INTO path FROM jsonb_each_text(site) AS s (key, value);
    END IF;
    FOR f IN SELECT p.oid, p.oid::regprocedure AS name, pg_get_functiondef(p.oid) AS def
               FROM pg_proc p
              WHERE p.pronamespace = 'seatcast'::regnamespace AND p.prokind = 'f' AND p.prosrc ~ '[^a-z_.]site[.][a-z]' LOOP
        body := f.def;
        FOREACH t IN ARRAY '{matches,areas,sections,blocks,seats,allocations}'::text[] LOOP
            IF body ~ ('[^a-z_.]site[.]' || t) THEN
                IF site ->> t IS NULL THEN
                    RAISE EXCEPTION 'seatcast: no table % on the search_path, which % reads', t, f.name
                        USING HINT = 'Run sql/install.sql, which creates it, or have the search_path find it.';
                END IF;
                body := regexp_replace(body, E'\\msite[.]' || t || E'\\M', (site ->> t) || '.' || t, 'g');
            END IF;
        END LOOP;
        body := regexp_replace(body, '^( SET search_path TO .*)''site'', ', E'\\1' || path, 'n');
        IF version IS NOT NULL THEN
            body := replace(body, '/* version */', format(', %s = coalesce(a.%s, 0) + 1', version, version));
            body := replace(replace(body, '/* version column */', ', ' || version), '/* version value */', ', 0');
        END IF;
        EXECUTE body;
    END LOOP;
    -- For --check: the dump of a database does not have its settings.
    EXECUTE format('COMMENT ON SCHEMA seatcast IS %L', 'seatcast: times without zone are ' || coalesce(nullif(current_setting('seatcast.time_zone', true), ''), 'UTC'));
    -- upgrade-online.sql comes here before there is anything to try.
    IF to_regprocedure('seatcast.trial(boolean)') IS NOT NULL AND to_regproc('seatcast.update_seats') IS NOT NULL THEN
        FOR f IN SELECT * FROM seatcast.trial(true) LOOP
            RAISE WARNING 'seatcast: %', substr(f.finding, length('seatcast ') + 1) USING HINT = 'Streams are not affected.';
        END LOOP;
    END IF;
END $$;
