-- Renews what is held, and says of each place in the arrays what became of it.
--
-- A row that another transaction holds is skipped and not waited for: its renewal is busy, and
-- the others are renewed.
--
-- $1 keys, $2 tokens, $3 leases and $4 retentions in microseconds
WITH asked AS MATERIALIZED (
    SELECT record_key, token, clock_timestamp() + lease_us::float8 * interval '1 microsecond' AS lease_until,
        retention_us::float8 * interval '1 microsecond' AS retention, place
    FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[])
        WITH ORDINALITY AS _ (record_key, token, lease_us, retention_us, place)
),
held AS MATERIALIZED (
    SELECT record_key FROM {schema}."{table}"
    WHERE record_key = ANY ($1::bytea[])
    ORDER BY record_key
    FOR NO KEY UPDATE SKIP LOCKED
),
written AS (
    UPDATE {schema}."{table}" r
    SET lease_until = asked.lease_until, expires_at = asked.lease_until + asked.retention -- heap-only
    FROM asked, held
    WHERE r.record_key = asked.record_key AND r.record_key = held.record_key
        AND r.token = asked.token AND r.state = 1 AND r.expires_at > clock_timestamp()
    RETURNING r.record_key, r.token
)
{outcomes}
