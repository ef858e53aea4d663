-- SPDX-License-Identifier: ISC
-- site.sql: where the site's tables are. Part of install.sql and of changes_*.sql, the first of them.
--
-- Tables are found on the search_path of whoever installs; one that is missing will be created in his current schema. From here
-- on the search_path is pg_catalog, pg_temp, until the end of the transaction: what is installed runs with the rights of who
-- installs, and must not meet functions or operators that others have put into those schemas (schema.sql has more).

DO $$
DECLARE
    here text := pg_catalog.current_schema();
    t    pg_catalog.text;
    n    pg_catalog.text;
    site pg_catalog.text := '';
BEGIN
    PERFORM pg_catalog.set_config('seatcast.search_path', pg_catalog.current_setting('search_path'), true);
    FOREACH t IN ARRAY '{matches,areas,sections,blocks,seats,allocations}'::pg_catalog.text[] LOOP
        SELECT c.relnamespace::pg_catalog.regnamespace::pg_catalog.text INTO n
          FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(t)::pg_catalog.oid;
        site := pg_catalog.concat_ws(',', nullif(site, ''), pg_catalog.concat('"', t, '":', pg_catalog.to_json(coalesce(n, pg_catalog.quote_ident(here)))));
    END LOOP;
    PERFORM pg_catalog.set_config('seatcast.site', pg_catalog.concat('{', site, '}'), true);
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF translate(site || here, E'''$\\', '') <> site || here THEN
        RAISE EXCEPTION 'seatcast: a schema has a quote, a backslash or a dollar sign in its name: %', site
            USING HINT = 'ALTER SCHEMA .. RENAME TO .., or write the functions by hand as doc/other-schema.md says.';
    END IF;
END $$;
