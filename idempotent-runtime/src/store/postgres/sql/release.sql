-- Removes the records of running claims of these tokens.
--
-- As renew.sql: a row that another transaction holds is busy.
--
-- $1 keys, $2 tokens
WITH asked AS MATERIALIZED (
    SELECT record_key, token, place
    FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS _ (record_key, token, place)
),
held AS MATERIALIZED (
    SELECT record_key FROM {schema}."{table}"
    WHERE record_key = ANY ($1::bytea[])
    ORDER BY record_key
    FOR UPDATE SKIP LOCKED
),
written AS (
    DELETE FROM {schema}."{table}" r USING asked, held
    WHERE r.record_key = asked.record_key AND r.record_key = held.record_key
        AND r.token = asked.token AND r.state = 1 AND r.expires_at > clock_timestamp()
    RETURNING r.record_key, r.token
)
{outcomes}
