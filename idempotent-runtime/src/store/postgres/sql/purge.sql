-- Removes expired records, and says of those that were never completed which they were. None that has not expired is
-- locked: its renewal would be busy.
--
-- One sweeper at a time is enough: one that does not get the lock sweeps nothing. Two would be right all
-- the same. (`clock_timestamp()` could not be looked up in the index: it is another one for each row.)
--
-- Those that were never completed come last, when a purge has room for them. Their index has an entry of each claim of the
-- table until the server vacuums it, so that looking there is dear: by key, because a scan in the order of an index marks
-- what it finds dead, and the next one passes by.
--
-- $1 how many
WITH sweeper AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('idempotent-runtime sweep {table}', 0::bigint)) AS is_me
),
completed AS MATERIALIZED (
    SELECT record_key FROM {schema}."{table}"
    WHERE purge_at <= statement_timestamp() AND (SELECT is_me FROM sweeper)
    ORDER BY purge_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),
uncompleted AS MATERIALIZED (
    SELECT record_key FROM {schema}."{table}"
    WHERE state = 1 AND expires_at <= statement_timestamp() AND (SELECT count(*) FROM completed) < $1
        AND (SELECT is_me FROM sweeper)
    ORDER BY record_key
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),
due AS MATERIALIZED (
    SELECT record_key FROM completed UNION ALL SELECT record_key FROM uncompleted
    LIMIT $1
),
gone AS (
    DELETE FROM {schema}."{table}" r USING due
    WHERE r.record_key = due.record_key AND r.expires_at <= statement_timestamp()
    RETURNING r.record_key, r.state, r.operation
)
SELECT CASE WHEN state = 1 THEN record_key END AS record_key, CASE WHEN state = 1 THEN operation END AS operation
FROM gone
