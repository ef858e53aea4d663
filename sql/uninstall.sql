-- SPDX-License-Identifier: ISC
-- uninstall.sql: take away what install.sql has brought, and nothing else.
--
--     psql -v ON_ERROR_STOP=1 -f sql/uninstall.sql
--     psql -v ON_ERROR_STOP=1 -v columns=drop -f sql/uninstall.sql        (or columns=keep: without being asked)
--
-- One transaction. First the trigger, and the columns that seatcast added (they say so in their comments), if you want that:
-- block_id and changed_xid can be made again, but of user_id and updated_at your own code may have made use by now. Then the schema
-- seatcast, and the roles, unless something else depends on them. Tables stay, those too that install.sql created, and indexes
-- on columns of yours: they are named at the end. The lock on allocations is a moment's, asked for with 300 ms of
-- patience for half a minute, so that nobody waits behind it for longer. Stop seatcast first.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?columns}
\else
\prompt 'Columns that seatcast added to allocations: drop or keep? ' columns
\endif
BEGIN;
SET LOCAL client_min_messages = warning;
\ir site.sql
SELECT set_config('seatcast.columns', :'columns', true) AS columns \gset
DO $$
DECLARE
    site     jsonb := current_setting('seatcast.site')::jsonb;
    tab      regclass := to_regclass((site ->> 'allocations') || '.allocations');
    drop_    text := current_setting('seatcast.columns');
    patience timestamptz := clock_timestamp() + interval '30 s';
    columns  text;
    role     text;
BEGIN
    IF drop_ NOT IN ('drop', 'keep') THEN
        RAISE EXCEPTION 'uninstall: drop or keep, and not %', drop_ USING HINT = 'Nothing was changed.';
    END IF;
    IF to_regnamespace('seatcast') IS NULL THEN
        RAISE EXCEPTION 'uninstall: there is no schema seatcast in the database %', current_database();
    END IF;
    IF tab IS NULL AND to_regproc('seatcast.track') IS NOT NULL THEN
        RAISE EXCEPTION 'uninstall: no table allocations on the search_path (%)', current_setting('seatcast.search_path')
            USING HINT = 'Run it as install.sql was run: PGOPTIONS=''-c search_path=..''.';
    END IF;
    SELECT string_agg(format('DROP COLUMN %I', a.attname), ', ') INTO columns
      FROM pg_attribute a
     WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND drop_ = 'drop'
       AND (a.attname = 'changed_xid' OR col_description(tab, a.attnum) = 'added by seatcast');
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '300ms', true);
            EXECUTE coalesce(format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', tab), '');
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > patience THEN
                RAISE EXCEPTION 'uninstall: % stayed locked by another transaction for 30 s', tab
                    USING ERRCODE = 'lock_not_available', HINT = 'Nothing was changed. pg_locks and pg_stat_activity show who holds the lock.';
            END IF;
        END;
        PERFORM pg_sleep(0.2);
    END LOOP;
    IF tab IS NOT NULL THEN
        EXECUTE format('DROP TRIGGER IF EXISTS zz_seatcast_track ON %s', tab);
        IF columns IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s %s', tab, columns);
        END IF;
    END IF;
    DROP SCHEMA seatcast CASCADE;

    FOREACH role IN ARRAY '{seatcast_writer,seatcast_reader}'::text[] LOOP
        CONTINUE WHEN to_regrole(role) IS NULL;
        BEGIN
            EXECUTE format('REVOKE ALL ON DATABASE %I FROM %I', current_database(), role);
            EXECUTE format('DROP ROLE %I', role);
        EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use THEN
            RAISE WARNING 'uninstall: the role % stays: %', role, SQLERRM
                USING HINT = 'Another database has seatcast, or you have given it something: see DROP OWNED.';
        END;
    END LOOP;
    SELECT string_agg(format('%s.%I', tab, a.attname), ', ') INTO columns
      FROM pg_attribute a WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND (a.attname = 'changed_xid' OR col_description(tab, a.attnum) = 'added by seatcast');
    IF columns IS NOT NULL THEN
        RAISE WARNING 'uninstall: these columns stay: %', columns;
    END IF;
    SELECT string_agg(i.indexrelid::regclass::text, ', ') INTO columns
      FROM pg_index i WHERE obj_description(i.indexrelid, 'pg_class') = 'added by seatcast';
    IF columns IS NOT NULL THEN
        RAISE WARNING 'uninstall: these indexes stay, which seatcast added: %', columns USING HINT = 'Your own queries may have come to need them. DROP INDEX CONCURRENTLY, if not.';
    END IF;
END $$;
COMMIT;
\unset columns
