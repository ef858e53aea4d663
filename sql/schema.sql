-- SPDX-License-Identifier: ISC
-- schema.sql: the schema seatcast, and helpers. Part of install.sql and of changes_*.sql.
--
-- A function that runs with its owner's rights must not look for anything where others can put something (PostgreSQL
-- manual, CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely"): neither a table nor a function nor an operator.
-- Whoever may create objects in the tables' schema (everybody in `public`, on PostgreSQL 13 and 14) would otherwise
-- overload cardinality(bigint[]), say, and be the owner when the next buyer comes. So every function here has the
-- search_path pg_catalog, pg_temp (functions and operators are never looked for in the latter), and says of each table
-- where it is. In these files that place is called `site`, as in site.allocations; bind.sql puts the real schema there.

CREATE SCHEMA IF NOT EXISTS seatcast;

-- Where a table of the site is, in this installation. Internal, for the files of sql/ alone.
CREATE OR REPLACE FUNCTION seatcast.site_table(name text) RETURNS regclass LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_regclass((current_setting('seatcast.site', true)::jsonb ->> $1) || '.' || quote_ident($1))
$$;

DO $$
BEGIN
    IF seatcast.site_table('allocations') IS NULL OR seatcast.site_table('seats') IS NULL THEN
        RAISE EXCEPTION 'seatcast: no table allocations or seats on the search_path (%)', current_setting('seatcast.search_path')
            USING HINT = 'Run sql/install.sql, or set the search_path: PGOPTIONS=''-c search_path=SCHEMA'' psql ...';
    END IF;
    -- Bodies name tables of `site` until bind.sql has been there; it checks them.
    PERFORM set_config('check_function_bodies', 'off', true);
    -- A bad name would otherwise be found by the first buyer.
    PERFORM now() AT TIME ZONE coalesce(nullif(current_setting('seatcast.time_zone', true), ''), 'UTC');
EXCEPTION WHEN invalid_parameter_value THEN
    RAISE EXCEPTION 'seatcast: the setting seatcast.time_zone is not a time zone: %', current_setting('seatcast.time_zone')
        USING HINT = 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET seatcast.time_zone = ''Asia/Seoul'' '
                     '(a name from pg_timezone_names), or RESET it for UTC; then connect again.';
END $$;

-- The instant that a stored time means, for either type of column: overloaded, so that one text of each function fits
-- both. SQL and without options of their own, so that the planner inlines them; hence qualified, for whoever calls them.
CREATE OR REPLACE FUNCTION seatcast.as_instant(stored timestamp) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT stored AT TIME ZONE coalesce(nullif(pg_catalog.current_setting('seatcast.time_zone', true), ''), 'UTC')
$$;
CREATE OR REPLACE FUNCTION seatcast.as_instant(stored timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT stored
$$;

-- The way back: an instant as a column stores it. Of sample only the type counts.
CREATE OR REPLACE FUNCTION seatcast.as_stored(instant timestamptz, sample timestamp) RETURNS timestamp LANGUAGE sql STABLE AS $$
    SELECT instant AT TIME ZONE coalesce(nullif(pg_catalog.current_setting('seatcast.time_zone', true), ''), 'UTC')
$$;
CREATE OR REPLACE FUNCTION seatcast.as_stored(instant timestamptz, sample timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT instant
$$;

-- Is there a usable index on exactly these columns (wanted 'unique', in any order: what keeps two buyers apart), or one that
-- begins with them (wanted 'order': in this order; 'any': in any; 'partial': in this order, perhaps not of all rows)?
CREATE OR REPLACE FUNCTION seatcast.has_index(tab regclass, cols text[], wanted text) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT
          FROM pg_index i
         CROSS JOIN LATERAL (
               SELECT array_agg(a.attname::text ORDER BY k.place) AS names
                 FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                WHERE k.place <= cardinality(cols)) AS key
         WHERE i.indrelid = tab AND i.indisvalid AND i.indisready AND (i.indpred IS NULL OR wanted = 'partial') AND i.indexprs IS NULL
           AND i.indnkeyatts >= cardinality(cols)
           AND CASE wanted
                   WHEN 'order' THEN key.names = cols
                   WHEN 'partial' THEN key.names = cols
                   WHEN 'any' THEN key.names @> cols
                   WHEN 'unique' THEN key.names @> cols AND i.indisunique AND i.indimmediate
                                      AND i.indnkeyatts = cardinality(cols)
               END)
$$;

-- A table as people call it: where `public` is meant it goes without saying.
CREATE OR REPLACE FUNCTION seatcast.shown(tab regclass) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT regexp_replace(tab::text, '^public[.]', '')
$$;

-- What the columns of optimistic locks are called: JPA's @Version and its like.
CREATE OR REPLACE FUNCTION seatcast.version_columns() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT '{version,lock_version,row_version,opt_lock,optlock,opt_lock_version,obj_version}'::text[]
$$;

-- The clock, once it is certain that these tables, which the caller has just read, are the ones its snapshot knows.
-- ALTER TABLE with a rewrite and TRUNCATE put a new file in a table's place that is empty to every older snapshot (manual,
-- MVCC, "Caveats"): a poll that waited for such a lock would see all seats free, and its cursor would pass over what had
-- been written before. The row of pg_class that our snapshot sees names the file it knows; pg_relation_filenode() tells
-- the present one, and now that the caller has its locks nobody can exchange it any more. If they differ, or our snapshot
-- has no such table: 40001, ask again, and keep the cursor. STABLE, so that "our snapshot" is the caller's.
CREATE OR REPLACE FUNCTION seatcast.read_at(VARIADIC tabs regclass[]) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT count(*) FROM pg_class c WHERE c.oid = ANY (tabs) AND c.relfilenode = coalesce(pg_relation_filenode(c.oid), 0)) <> cardinality(tabs) THEN
        RAISE EXCEPTION 'a table was rewritten while this statement waited for it: %', tabs
            USING ERRCODE = 'serialization_failure', HINT = 'Ask again.';
    END IF;
    RETURN clock_timestamp();
END $$;
