-- The record for enter.sql, by another connection. Without a record its columns are null.
--
-- $1 key
SELECT clock_timestamp() AS now,
    r.fingerprint, r.state, r.response, r.attempt, r.created_at, r.lease_until, r.expires_at
FROM (VALUES (1)) AS one LEFT JOIN {schema}."{table}" AS r
    ON r.record_key = $1
