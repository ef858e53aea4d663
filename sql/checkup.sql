-- checkup.sql: what `seatcast --check` asks about the tables. Part of install.sql, after changes_exact.sql.
--
-- The roles of seatcast may not look at tables, so a function with its owner's rights does. One row per finding, none when
-- all is well; severity 'error' means that changes can be lost or seats sold twice. A site with tables of its own may
-- replace it or drop it: it is no part of the port.

CREATE OR REPLACE FUNCTION seatcast.checkup() RETURNS TABLE (severity text, finding text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    tab   regclass := to_regclass('allocations');
    exact boolean;
    n     bigint;
BEGIN
    IF tab IS NULL OR to_regclass('seats') IS NULL THEN
        RETURN QUERY SELECT 'error', 'the table allocations or seats is gone: run sql/install.sql';
        RETURN;
    END IF;
    SELECT p.prosrc ~ 'changed_xid' INTO exact FROM pg_proc p
     WHERE p.oid = to_regprocedure('seatcast.changes(bigint,bigint,text)');

    RETURN QUERY
    SELECT 'error', format('the trigger that tracks changes of %s is missing or not ENABLE ALWAYS: run sql/install.sql', tab)
     WHERE NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                        WHERE t.tgrelid = tab AND p.pronamespace = 'seatcast'::regnamespace AND t.tgenabled = 'A')
       AND exact
    UNION ALL
    SELECT 'error', format('no unique index on %s (match_id, seat_id): hold refuses to sell; remove duplicates and run sql/install.sql', tab)
     WHERE NOT seatcast.has_index(tab, '{match_id,seat_id}', 'unique')
    UNION ALL
    SELECT 'warning', format('no index on %s (match_id, block_id, changed_xid): every poll reads more than it needs; run sql/install.sql', tab)
     WHERE exact AND NOT seatcast.has_index(tab, '{match_id,block_id,changed_xid}', 'order')
    UNION ALL
    SELECT 'warning', format('no index on %s (updated_at): every poll reads the whole table; run sql/install.sql', tab)
     WHERE NOT exact AND NOT seatcast.has_index(tab, '{updated_at}', 'order')
    UNION ALL
    SELECT 'warning', 'no index on seats (block_id): every snapshot reads the whole table; run sql/install.sql'
     WHERE NOT seatcast.has_index('seats', '{block_id}', 'order')
    UNION ALL
    SELECT 'warning', format('%s may write or read %s directly: REVOKE ALL ON %s FROM %s', r.name, tab, tab, r.name)
      FROM unnest('{seatcast_reader,seatcast_writer}'::text[]) AS r (name)
     WHERE to_regrole(r.name) IS NOT NULL AND has_table_privilege(r.name, tab, 'SELECT, INSERT, UPDATE, DELETE');

    IF exact THEN
        -- Rows restored from another cluster's dump: ids that no transaction here has had yet.
        EXECUTE format('SELECT count(*) FROM %s WHERE changed_xid >= $1', tab)
           INTO n USING pg_snapshot_xmax(pg_current_snapshot());
        IF n > 0 THEN
            RETURN QUERY SELECT 'warning', format('%s rows of %s carry changed_xid of another cluster and come with every poll: '
                'UPDATE %s SET changed_xid = NULL WHERE changed_xid >= ''%s''', n, tab, tab, pg_snapshot_xmax(pg_current_snapshot()));
        END IF;
    END IF;
END $$;
