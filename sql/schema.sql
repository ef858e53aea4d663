-- schema.sql: the schema seatcast, the pinned search_path, and three helpers. Part of install.sql and of changes_*.sql.
--
-- Every function that runs with its owner's rights must not find its tables through the caller's search_path
-- (PostgreSQL manual, CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely"). Here the search_path becomes
-- pg_catalog, the schemas in which our tables were found (in the caller's order, so that names go on meaning the same),
-- pg_temp last; the functions then say SET search_path FROM CURRENT. It lasts until the end of the transaction.

CREATE SCHEMA IF NOT EXISTS seatcast;

DO $$
DECLARE
    path text;
BEGIN
    IF to_regclass('allocations') IS NULL OR to_regclass('seats') IS NULL THEN
        RAISE EXCEPTION 'seatcast: no table allocations or seats on the search_path (%)', current_setting('search_path')
            USING HINT = 'Run sql/install.sql, or set the search_path: PGOPTIONS=''-c search_path=SCHEMA'' psql ...';
    END IF;
    SELECT string_agg(quote_ident(s.name), ', ' ORDER BY s.place)
      INTO path
      FROM unnest(current_schemas(false)) WITH ORDINALITY AS s (name, place)
     WHERE s.name <> 'pg_catalog' AND s.name !~ '^pg_temp'
       AND EXISTS (SELECT FROM unnest('{matches,areas,sections,blocks,seats,allocations}'::text[]) AS t (name)
                     JOIN pg_class c ON c.oid = to_regclass(t.name)
                    WHERE c.relnamespace::regnamespace::text = quote_ident(s.name));
    PERFORM set_config('search_path', 'pg_catalog, ' || path || ', pg_temp', true);
    -- A bad name would otherwise be found by the first buyer.
    BEGIN
        PERFORM now() AT TIME ZONE coalesce(nullif(current_setting('seatcast.time_zone', true), ''), 'UTC');
    EXCEPTION WHEN invalid_parameter_value THEN
        RAISE EXCEPTION 'seatcast: the setting seatcast.time_zone is not a time zone: %', current_setting('seatcast.time_zone')
            USING HINT = 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET seatcast.time_zone = ''Asia/Seoul'' '
                         '(a name from pg_timezone_names), or RESET it for UTC; then connect again.';
    END;
END $$;

-- The instant that a stored time means, for either type of column: overloaded, so that one text of each function fits
-- both. SQL and without options of their own, so that the planner inlines them.
CREATE OR REPLACE FUNCTION seatcast.as_instant(stored timestamp) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT stored AT TIME ZONE coalesce(nullif(current_setting('seatcast.time_zone', true), ''), 'UTC')
$$;
CREATE OR REPLACE FUNCTION seatcast.as_instant(stored timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT stored
$$;

-- The way back: an instant as a column stores it. Of sample only the type counts.
CREATE OR REPLACE FUNCTION seatcast.as_stored(instant timestamptz, sample timestamp) RETURNS timestamp LANGUAGE sql STABLE AS $$
    SELECT instant AT TIME ZONE coalesce(nullif(current_setting('seatcast.time_zone', true), ''), 'UTC')
$$;
CREATE OR REPLACE FUNCTION seatcast.as_stored(instant timestamptz, sample timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT instant
$$;

-- Is there a usable index on exactly these columns (wanted 'unique', in any order: what ON CONFLICT accepts), or one that
-- begins with them (wanted 'order': in this order; 'any': in any)?
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
         WHERE i.indrelid = tab AND i.indisvalid AND i.indisready AND i.indpred IS NULL AND i.indexprs IS NULL
           AND i.indnkeyatts >= cardinality(cols)
           AND CASE wanted
                   WHEN 'order' THEN key.names = cols
                   WHEN 'any' THEN key.names @> cols
                   WHEN 'unique' THEN key.names @> cols AND i.indisunique AND i.indimmediate
                                      AND i.indnkeyatts = cardinality(cols)
               END)
$$;
