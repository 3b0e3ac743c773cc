-- Removes expired records, and says of those that were never completed which they were. What is looked at
-- too early is looked at again when it expires.
--
-- One sweeper at a time is enough: one that does not get the lock sweeps nothing. Two would be right all
-- the same. (`clock_timestamp()` could not be looked up in the index: it is another one for each row.)
WITH sweeper AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('idempotent-runtime sweep {table}', 0)) AS is_me
),
due AS MATERIALIZED (
    SELECT key FROM {schema}."{table}"
    WHERE purge_at <= statement_timestamp() AND (SELECT is_me FROM sweeper)
    ORDER BY purge_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),
later AS (
    UPDATE {schema}."{table}" r SET purge_at = r.expires_at
    FROM due
    WHERE r.key = due.key AND r.expires_at > statement_timestamp()
),
gone AS (
    DELETE FROM {schema}."{table}" r USING due
    WHERE r.key = due.key AND r.expires_at <= statement_timestamp()
    RETURNING r.key, r.state, r.operation
)
SELECT CASE WHEN state = 1 THEN key END AS key, CASE WHEN state = 1 THEN operation END AS operation
FROM gone
