-- SPDX-License-Identifier: ISC
-- track.sql: the columns and the trigger by which no change is missed. Part of install.sql and of upgrade-online.sql, after schema.sql.
--
-- changed_xid holds the id of the top-level transaction that wrote the row's latest version. pg_current_xact_id() gives
-- that id inside savepoints too (functions-info, "Transaction ID and Snapshot Information"), it is 64 bits wide and so
-- never wraps, and it is assigned before the row can be seen by anybody. changes_exact.sql has the rest of the argument.

-- One trigger sets all three columns. SECURITY DEFINER: who may write allocations need not be able to read seats.
CREATE OR REPLACE FUNCTION seatcast.track() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept boolean;
BEGIN
    -- An updated_at that the writer gives is his, and perhaps what his next UPDATE compares; nothing here depends on it. One that
    -- he left as it was, or to the default, is the clock's, and not CURRENT_TIMESTAMP: that one is the start of the
    -- transaction and in the zone of the writer's session.
    IF TG_OP = 'INSERT' THEN
        kept := NEW.updated_at <> now();
    ELSE
        kept := NEW.updated_at IS DISTINCT FROM OLD.updated_at;
    END IF;
    IF kept IS NOT TRUE OR NEW.updated_at IS NULL THEN
        NEW.updated_at := seatcast.as_stored(clock_timestamp(), NEW.updated_at);
    END IF;
    NEW.changed_xid := pg_current_xact_id();
    -- A seat that the table seats does not know keeps the block that the writer gave.
    NEW.block_id := coalesce((SELECT s.block_id FROM site.seats s WHERE s.id = NEW.seat_id), NEW.block_id);
    RETURN NEW;
END $$;

-- What of it is missing? Internal.
CREATE OR REPLACE FUNCTION seatcast.untracked(tab regclass, OUT columns text[], OUT trigger boolean) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT array_agg(want.col) FROM unnest('{user_id,updated_at,block_id,changed_xid}'::text[]) AS want (col)
             WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = want.col AND NOT a.attisdropped)),
           NOT EXISTS (SELECT FROM pg_trigger g
                        WHERE g.tgrelid = tab AND g.tgname = 'zz_seatcast_track' AND g.tgtype = 23 AND g.tgenabled = 'A'
                          AND g.tgqual IS NULL AND g.tgattr::text = '' AND g.tgfoid = 'seatcast.track()'::regprocedure)
$$;

-- Adds it, in one go, so that every row written before has its default and every row written after meets the trigger. changed_xid
-- has a STABLE default, which PostgreSQL evaluates once and stores beside the table (ALTER TABLE, Notes): no rewrite, no
-- trigger fires, a moment whatever the table's size. Our columns are known by their comments (uninstall.sql). Internal.
CREATE OR REPLACE FUNCTION seatcast.add_tracking(tab regclass) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lacks record := seatcast.untracked(tab);
    col   text;
BEGIN
    IF lacks.columns IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', tab);
    END IF;
    FOREACH col IN ARRAY coalesce(lacks.columns, '{}') LOOP
        -- CURRENT_TIMESTAMP alone would give the rows that are there the time of this session's zone.
        EXECUTE format('ALTER TABLE %s ADD COLUMN %I %s', tab, col, CASE col
            WHEN 'updated_at' THEN format('timestamp DEFAULT (CURRENT_TIMESTAMP AT TIME ZONE %L)', coalesce(nullif(current_setting('seatcast.time_zone', true), ''), 'UTC'))
            WHEN 'changed_xid' THEN 'xid8 DEFAULT pg_current_xact_id()'
            ELSE 'bigint' END);
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', tab, col, 'added by seatcast');
    END LOOP;
    IF 'updated_at' = ANY (lacks.columns) THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN updated_at SET DEFAULT CURRENT_TIMESTAMP', tab);
    END IF;
    IF 'changed_xid' = ANY (lacks.columns) THEN
        -- The default has done its work: every old row has the value. Should the trigger ever be switched off, a
        -- new row must not get the id that a forgetful INSERT .. SELECT would copy, but NULL, which changes() always reports.
        EXECUTE format('ALTER TABLE %s ALTER COLUMN changed_xid DROP DEFAULT', tab);
    END IF;
    -- The trigger is named to run last (BEFORE triggers run in the order of their names), so that it sees what the others made of
    -- the row, and ENABLE ALWAYS, or it would not fire on a logical replication subscriber (ALTER TABLE, "DISABLE/ENABLE
    -- [ REPLICA | ALWAYS ] TRIGGER"). tgtype 23 above is ROW 1 + BEFORE 2 + INSERT 4 + UPDATE 16.
    IF lacks.trigger THEN
        EXECUTE format('DROP TRIGGER IF EXISTS zz_seatcast_track ON %s', tab);
        EXECUTE format('CREATE TRIGGER zz_seatcast_track BEFORE INSERT OR UPDATE ON %s '
                       'FOR EACH ROW EXECUTE FUNCTION seatcast.track()', tab);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_seatcast_track', tab);
    END IF;
END $$;
