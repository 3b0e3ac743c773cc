-- One sweeper at a time is enough: who does not get the lock sweeps nothing. Two would be right all
-- the same. (`clock_timestamp()` could not be looked up in the index: it is another one for each row.)
WITH sweeper AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('idempotent-runtime sweep {table}', 0)) AS is_me
),
expired AS MATERIALIZED (
    SELECT key FROM "{table}"
    WHERE expires_at <= statement_timestamp() AND (SELECT is_me FROM sweeper)
    ORDER BY expires_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
DELETE FROM "{table}" r USING expired
WHERE r.key = expired.key AND r.expires_at <= statement_timestamp()
