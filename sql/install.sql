-- SPDX-License-Identifier: ISC
-- install.sql: make a database ready for seatcast.
--
--     psql -v ON_ERROR_STOP=1 -f sql/install.sql
--
-- One transaction: all of it or nothing. Run it again at any time; what is there already is left alone, and a run
-- that finds nothing to alter takes no lock that a buyer or a viewer would notice. Silent on success; a WARNING is
-- something for you to act on. Run it as the owner of the tables (creating the roles needs CREATEROLE).
--
-- Tables are found on the search_path (PGOPTIONS='-c search_path=shop' picks another schema) and the functions go on
-- naming the ones found now. Times without zone are UTC unless: ALTER DATABASE d SET seatcast.time_zone = 'Asia/Seoul'
-- (set it before the first run, and reconnect: a setting of a database applies to new sessions).

\set ON_ERROR_STOP on
\set QUIET on
\set seatcast_installing 1
BEGIN;
SET LOCAL client_min_messages = warning;
-- An ALTER TABLE that waits blocks everybody behind it. Better to fail after ten seconds and be run again.
SET LOCAL lock_timeout = '10s';
-- Two installations in one database take turns ('seatcast' in ASCII, first four bytes).
DO $$ BEGIN PERFORM pg_advisory_xact_lock(x'73656174'::bigint); END $$;
\ir site.sql
\ir tables.sql
\ir schema.sql
\ir track.sql
\ir tracking.sql
\ir allocation.sql
\ir port.sql
\ir changes_exact.sql
\ir checkup.sql
\ir bind.sql
\ir roles.sql
COMMIT;
\unset seatcast_installing
