-- tracking.sql: what `allocations` needs so that no change is missed. Part of install.sql, after schema.sql.
--
-- changed_xid holds the id of the top-level transaction that wrote the row's latest version. pg_current_xact_id() gives
-- that id inside savepoints too (functions-info, "Transaction ID and Snapshot Information"), it is 64 bits wide and so
-- never wraps, and it is assigned before the row can be seen by anybody. changes_exact.sql has the rest of the argument.
--
-- An existing table keeps every row. changed_xid is added with a STABLE default, which PostgreSQL evaluates once and
-- stores beside the table (ALTER TABLE, Notes): no rewrite, no trigger fires. Only block_id needs an UPDATE; while it
-- runs, the table's other triggers are off (the lock keeps everybody else out until we commit, so nobody misses them).
-- So the first run on a table of millions is for a quiet moment, or comes after upgrade-online.sql, which does the long
-- part while writers write; later runs only read the table, and wait for nobody.

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

DO $$
DECLARE
    tab     regclass := seatcast.site_table('allocations');
    seats   regclass := seatcast.site_table('seats');
    name    text := seatcast.shown(tab);
    cols    jsonb;      -- column name: type name
    wrong   text;
    other   jsonb := '[]';
    add     text[] := '{}';     -- columns
    trigger boolean;            -- is as it should be
    index   text[] := '{}';
    stray   text;               -- rows to be mended
    mend    boolean;
    patience timestamptz := clock_timestamp() + interval '10 s';
    t       record;
    n       bigint;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = tab) <> 'r' THEN
        RAISE EXCEPTION 'seatcast: % is not a plain table', name
            USING HINT = 'The trigger must be on the table itself: put the table''s schema first in the search_path.';
    END IF;
    SELECT jsonb_object_agg(attname, format_type(atttypid, NULL)) INTO cols
      FROM pg_attribute WHERE attrelid = tab AND attnum > 0 AND NOT attisdropped;
    SELECT string_agg(format('%s %s (wanted: %s)', want.col, cols ->> want.col, want.types), ', ') INTO wrong
      FROM (VALUES ('match_id', 'bigint|integer|smallint'), ('seat_id', 'bigint|integer|smallint'),
                   ('block_id', 'bigint|integer|smallint'), ('changed_xid', 'xid8'),
                   ('hold_expires_at', 'timestamp without time zone|timestamp with time zone'),
                   ('updated_at', 'timestamp without time zone|timestamp with time zone')) AS want (col, types)
     WHERE cols ? want.col AND NOT (cols ->> want.col) = ANY (string_to_array(want.types, '|'));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'seatcast: columns of % have types that seatcast cannot use: %', name, wrong
            USING HINT = 'Convert or rename them, or rewrite sql/port.sql and sql/changes_exact.sql for this table.';
    END IF;

    -- 1. What is missing? Columns; the trigger, named to run last (BEFORE triggers run in the order of their names), so that it
    -- sees what the others made of the row, and ENABLE ALWAYS, or it would not fire on a logical replication subscriber
    -- (ALTER TABLE, "DISABLE/ENABLE [ REPLICA | ALWAYS ] TRIGGER"; tgtype 23 = ROW 1 + BEFORE 2 + INSERT 4 + UPDATE 16);
    -- and indexes. (match, block, xid) makes a poll cost what changed in the block since the cursor, and nothing else.
    SELECT array_agg(want.col) INTO add FROM unnest('{user_id,updated_at,block_id,changed_xid}'::text[]) AS want (col) WHERE NOT cols ? want.col;
    trigger := EXISTS (SELECT FROM pg_trigger
                        WHERE tgrelid = tab AND tgname = 'zz_seatcast_track' AND tgtype = 23 AND tgenabled = 'A'
                          AND tgqual IS NULL AND tgattr::text = '' AND tgfoid = 'seatcast.track()'::regprocedure);
    IF NOT seatcast.has_index(tab, '{match_id,block_id,changed_xid}', 'order') THEN
        index := index || format('CREATE INDEX ON %s (match_id, block_id, changed_xid)', tab);
    END IF;
    IF NOT seatcast.has_index(tab, '{match_id,changed_xid}', 'order') THEN
        index := index || format('CREATE INDEX ON %s (match_id, changed_xid)', tab);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    WHERE i.indrelid = tab AND c.relname = 'idx_allocations_updated_at') THEN
        index := index || format('CREATE INDEX idx_allocations_updated_at ON %s (updated_at)', tab);
    END IF;
    IF NOT seatcast.has_index(seats, '{block_id,id}', 'order') THEN
        index := index || format('CREATE INDEX ON %s (block_id, id)', seats);
    END IF;
    IF NOT seatcast.has_index(seats, '{id}', 'order') THEN
        index := index || format('CREATE INDEX ON %s (id)', seats);
    END IF;
    -- Rows: block missing or no longer true, written while the trigger was off, or restored from a dump of a cluster whose
    -- transaction ids were ahead of ours (they would be reported at every poll until we catch up). "Ahead" is judged by the
    -- snapshot that sees the rows: this transaction's own id may be older than rows that buyers write meanwhile.
    stray := format('SELECT %%s FROM %s a LEFT JOIN %s s ON s.id = a.seat_id '
                    'WHERE a.changed_xid IS NULL OR a.changed_xid >= pg_snapshot_xmax(pg_current_snapshot()) '
                    'OR s.block_id IS NOT NULL AND a.block_id IS DISTINCT FROM s.block_id', tab, seats);
    IF add IS NULL THEN
        EXECUTE format('SELECT EXISTS (' || stray || ')', '') INTO mend;
    END IF;

    -- 2. All locks at once, or none. A writer of seats and allocations that we meet half-way would be a deadlock: so they are asked
    -- for in one go, with less patience than deadlock_timeout has, and all given back before the next attempt. Nobody
    -- waits behind us for longer than that.
    IF add IS NOT NULL OR NOT trigger OR mend OR cardinality(index) > 0 OR NOT seatcast.has_index(tab, '{match_id,seat_id}', 'any') THEN
        LOOP
            BEGIN
                PERFORM set_config('lock_timeout', '300ms', true);
                EXECUTE format('LOCK TABLE %s IN SHARE MODE', seats);
                EXECUTE format('LOCK TABLE %s IN %s MODE', tab, CASE WHEN add IS NOT NULL OR mend THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END);
                EXIT;
            EXCEPTION WHEN lock_not_available THEN
                IF clock_timestamp() > patience THEN
                    RAISE EXCEPTION 'seatcast: % stayed locked by another transaction for 10s', name
                        USING ERRCODE = 'lock_not_available',
                              HINT = 'Nothing was changed. Run sql/install.sql again in a quiet moment; pg_locks and pg_stat_activity show who holds the lock.';
                END IF;
            END;
            PERFORM pg_sleep(0.2);
        END LOOP;
        PERFORM set_config('lock_timeout', '10s', true);
    END IF;

    -- 3. Columns. The table is locked before the first of them, so that every row written before has its default and
    -- every row written after meets the trigger.
    IF 'user_id' = ANY (add) THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN user_id bigint', tab);
    END IF;
    IF 'updated_at' = ANY (add) THEN
        -- CURRENT_TIMESTAMP alone would give the rows that are there the time of this session's zone.
        EXECUTE format('ALTER TABLE %s ADD COLUMN updated_at timestamp DEFAULT (CURRENT_TIMESTAMP AT TIME ZONE %L)', tab,
            coalesce(nullif(current_setting('seatcast.time_zone', true), ''), 'UTC'));
        EXECUTE format('ALTER TABLE %s ALTER COLUMN updated_at SET DEFAULT CURRENT_TIMESTAMP', tab);
    END IF;
    IF 'block_id' = ANY (add) THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN block_id bigint', tab);
    END IF;
    IF 'changed_xid' = ANY (add) THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN changed_xid xid8 DEFAULT pg_current_xact_id()', tab);
        -- The default has done its work: every old row has the value. Should the trigger ever be switched off, a
        -- new row must not get the id that a forgetful INSERT .. SELECT would copy, but NULL, which changes() always reports.
        EXECUTE format('ALTER TABLE %s ALTER COLUMN changed_xid DROP DEFAULT', tab);
    END IF;
    IF NOT trigger THEN
        EXECUTE format('DROP TRIGGER IF EXISTS zz_seatcast_track ON %s', tab);
        EXECUTE format('CREATE TRIGGER zz_seatcast_track BEFORE INSERT OR UPDATE ON %s '
                       'FOR EACH ROW EXECUTE FUNCTION seatcast.track()', tab);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER zz_seatcast_track', tab);
    END IF;

    -- 4. Rows.
    IF add IS NOT NULL OR mend THEN
        FOR t IN SELECT tgname, tgenabled FROM pg_trigger
                  WHERE tgrelid = tab AND NOT tgisinternal AND tgenabled <> 'D' LOOP
            other := other || jsonb_build_object('name', t.tgname, 'enabled', t.tgenabled);
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', tab, t.tgname);
        END LOOP;
        EXECUTE format('UPDATE %s r SET block_id = w.block_id, changed_xid = pg_current_xact_id() FROM (' || stray || ') AS w WHERE r.ctid = w.row_at',
                       tab, 'a.ctid AS row_at, coalesce(s.block_id, a.block_id) AS block_id');
        FOR t IN SELECT e ->> 'name' AS tgname, e ->> 'enabled' AS tgenabled FROM jsonb_array_elements(other) AS e LOOP
            EXECUTE format('ALTER TABLE %s ENABLE %s TRIGGER %I', tab,
                           CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' ELSE '' END, t.tgname);
        END LOOP;
    END IF;

    -- 5. Indexes.
    FOREACH wrong IN ARRAY index LOOP
        EXECUTE wrong;
    END LOOP;
    IF NOT seatcast.has_index(tab, '{match_id,seat_id}', 'unique') THEN
        EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE match_id IS NOT NULL AND seat_id IS NOT NULL '
                       'GROUP BY match_id, seat_id HAVING count(*) > 1) AS twice', tab) INTO n;
        IF n = 0 THEN
            EXECUTE format('CREATE UNIQUE INDEX ON %s (match_id, seat_id)', tab);
            EXECUTE format('DROP INDEX IF EXISTS %I.allocations_match_seat_not_unique', (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = tab));
        ELSE
            RAISE WARNING 'seatcast: % has more than one row for % seats of a match, so it cannot have UNIQUE (match_id, seat_id)', name, n
                USING DETAIL = 'Streams work and show the most taken of a seat''s rows. Holding seats is refused: nothing could keep two buyers apart.',
                      HINT = format('Find them: SELECT match_id, seat_id, count(*) FROM %s GROUP BY 1, 2 HAVING count(*) > 1; '
                                    'leave one row per seat and run sql/install.sql again.', name);
            IF NOT seatcast.has_index(tab, '{match_id,seat_id}', 'any') THEN
                EXECUTE format('CREATE INDEX allocations_match_seat_not_unique ON %s (match_id, seat_id)', tab);
            END IF;
        END IF;
    END IF;

    -- 6. What works, but not as somebody may expect.
    EXECUTE format('SELECT count(*) FROM %s a WHERE NOT EXISTS (SELECT FROM %s s WHERE s.id = a.seat_id)', tab, seats) INTO n;
    IF n > 0 THEN
        RAISE WARNING 'seatcast: % rows of % name seats that the table seats does not have; they are not shown', n, name
            USING HINT = 'Fill areas, sections, blocks and seats, then run sql/install.sql again.';
    END IF;
    EXECUTE format('SELECT string_agg(DISTINCT coalesce(status::text, ''NULL''), '', '') '
                   'FROM %s WHERE status::text NOT IN (''AVAILABLE'', ''HOLD'', ''OCCUPIED'')', tab) INTO wrong;
    IF wrong IS NOT NULL THEN
        RAISE WARNING 'seatcast: %.status has values that seatcast does not know: %', name, wrong
            USING HINT = 'They are shown as OCCUPIED and cannot be held. Translate them in sql/port.sql and sql/changes_exact.sql.';
    END IF;
    SELECT string_agg(want.label, ', ') INTO wrong
      FROM (VALUES ('AVAILABLE'), ('HOLD'), ('OCCUPIED')) AS want (label),
           pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
     WHERE a.attrelid = tab AND a.attname = 'status' AND y.typtype = 'e'
       AND NOT EXISTS (SELECT FROM pg_enum e WHERE e.enumtypid = y.oid AND e.enumlabel = want.label);
    IF wrong IS NOT NULL THEN
        RAISE WARNING 'seatcast: the enum type of %.status lacks: %', name, wrong
            USING HINT = 'Until ALTER TYPE .. ADD VALUE, hold, release and confirm fail; streams are not affected.';
    END IF;
    IF cols ? 'user_id' AND (cols ->> 'user_id') NOT IN ('bigint', 'integer', 'smallint') THEN
        RAISE WARNING 'seatcast: %.user_id is %: hold, release and confirm fail; streams are not affected', name, cols ->> 'user_id'
            USING HINT = 'Make it bigint, or rewrite these three functions in sql/port.sql.';
    END IF;
    SELECT string_agg(attname, ', ') INTO wrong
      FROM pg_attribute
     WHERE attrelid = tab AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
       AND attname NOT IN ('match_id', 'block_id', 'seat_id', 'user_id', 'status', 'hold_expires_at', 'updated_at', 'changed_xid');
    IF wrong IS NOT NULL THEN
        RAISE WARNING 'seatcast: columns of % are NOT NULL and have no default: %', name, wrong
            USING HINT = 'Give them defaults (for an id: ADD GENERATED BY DEFAULT AS IDENTITY), else seatcast cannot hold a seat.';
    END IF;
END $$;
