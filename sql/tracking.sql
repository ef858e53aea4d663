-- SPDX-License-Identifier: ISC
-- tracking.sql: allocations gets the columns, the trigger and the indexes that polls need. Part of install.sql, after track.sql.
--
-- An existing table keeps every row. Only block_id needs an UPDATE; while it runs, the table's other triggers are off (the lock
-- keeps everybody else out until we commit, so nobody misses them). So the first run on a table of millions is for a
-- quiet moment, or comes after upgrade-online.sql, which does the long part while writers write; later runs only read the
-- table, and wait for nobody.

DO $$
DECLARE
    tab     regclass := seatcast.site_table('allocations');
    seats   regclass := seatcast.site_table('seats');
    name    text := seatcast.shown(tab);
    cols    jsonb;      -- column name: type name
    wrong   text;
    other   jsonb := '[]';
    lacks   record;
    index   text[] := '{}';
    had     oid[];
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
    IF EXISTS (SELECT FROM pg_inherits WHERE tab IN (inhparent, inhrelid)) THEN
        RAISE EXCEPTION 'seatcast: % has child tables, or is one (INHERITS)', name
            USING HINT = 'Neither trigger nor unique index would cover all of it: ALTER TABLE .. NO INHERIT .., or write the functions for these tables, as doc/other-schema.md does.';
    END IF;
    IF row_security_active(tab) OR row_security_active(seats) THEN
        RAISE EXCEPTION 'seatcast: row level security hides rows of % or % from %, and hidden seats would look free', name, seatcast.shown(seats), current_user
            USING HINT = format('ALTER ROLE %I BYPASSRLS, or ALTER TABLE .. NO FORCE ROW LEVEL SECURITY and run sql/install.sql as the owner of the tables.', current_user);
    END IF;
    -- A site whose rule is "one row that is not deleted" has several rows for a seat, of which one counts; only it knows which.
    SELECT pg_get_indexdef(i.indexrelid) INTO wrong
      FROM pg_index i
     WHERE i.indrelid = tab AND i.indisunique AND i.indpred IS NOT NULL AND i.indnkeyatts = 2
       AND 2 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = tab AND a.attnum = ANY (i.indkey::int2[]) AND a.attname IN ('match_id', 'seat_id'))
       AND NOT seatcast.has_index(tab, '{match_id,seat_id}', 'unique');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'seatcast: one row for a seat is a rule for some rows of % only: %', name, wrong
            USING HINT = 'Seats would be shown by rows that do not count any more. Write the functions for this table, as doc/other-schema.md does for tickets that were canceled.';
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

    -- 1. What is missing? Columns, the trigger, indexes. (match, block, xid) makes a poll cost what changed in the block since the
    -- cursor, and nothing else; (match, xid) one of a whole match.
    lacks := seatcast.untracked(tab);
    IF NOT seatcast.has_index(tab, '{match_id,block_id,changed_xid}', 'order') THEN
        index := index || format('CREATE INDEX ON %s (match_id, block_id, changed_xid)', tab);
    END IF;
    IF NOT seatcast.has_index(tab, '{match_id,changed_xid}', 'order') THEN
        index := index || format('CREATE INDEX ON %s (match_id, changed_xid)', tab);
    END IF;
    IF NOT seatcast.has_index(tab, '{user_id}', 'partial') THEN
        index := index || format('CREATE INDEX ON %s (user_id, match_id) WHERE user_id IS NOT NULL', tab);      -- for --max-holds
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
    IF lacks.columns IS NULL THEN
        EXECUTE format('SELECT EXISTS (' || stray || ')', '') INTO mend;
    END IF;

    -- 2. All locks at once, or none. A writer of seats and allocations that we meet half-way would be a deadlock: so they are asked
    -- for in one go, with less patience than deadlock_timeout has, and all given back before the next attempt. Nobody
    -- waits behind us for longer than that.
    IF lacks.columns IS NOT NULL OR lacks.trigger OR mend OR cardinality(index) > 0 OR NOT seatcast.has_index(tab, '{match_id,seat_id}', 'any') THEN
        LOOP
            BEGIN
                PERFORM set_config('lock_timeout', '300ms', true);
                EXECUTE format('LOCK TABLE %s IN SHARE MODE', seats);
                EXECUTE format('LOCK TABLE %s IN %s MODE', tab, CASE WHEN lacks.columns IS NOT NULL OR mend THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END);
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

    -- 3. Columns and trigger.
    PERFORM seatcast.add_tracking(tab);

    -- 4. Rows.
    IF lacks.columns IS NOT NULL OR mend THEN
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
    had := ARRAY(SELECT i.indexrelid FROM pg_index i WHERE i.indrelid IN (tab, seats));
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
    FOR t IN SELECT i.indexrelid::regclass AS name FROM pg_index i WHERE i.indrelid IN (tab, seats) AND i.indexrelid <> ALL (had) LOOP
        EXECUTE format('COMMENT ON INDEX %s IS %L', t.name, 'added by seatcast');       -- for uninstall.sql
    END LOOP;

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
    SELECT string_agg(attname, ', ') INTO wrong
      FROM pg_attribute
     WHERE attrelid = tab AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
       AND attname NOT IN ('match_id', 'block_id', 'seat_id', 'user_id', 'status', 'hold_expires_at', 'updated_at', 'changed_xid')
       AND NOT attname = ANY (seatcast.version_columns());
    IF wrong IS NOT NULL THEN
        RAISE WARNING 'seatcast: columns of % are NOT NULL and have no default: %', name, wrong
            USING HINT = 'Give them defaults (for an id: ADD GENERATED BY DEFAULT AS IDENTITY), else seatcast cannot hold a seat.';
    END IF;
END $$;
