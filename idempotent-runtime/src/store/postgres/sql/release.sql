-- Removes the records of running claims of these tokens.
--
-- As renew.sql: a row that another transaction holds is busy.
--
-- $1 keys, $2 tokens
WITH asked AS MATERIALIZED (
    SELECT key, token, place
    FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS _ (key, token, place)
),
held AS MATERIALIZED (
    SELECT key FROM {schema}."{table}"
    WHERE key = ANY ($1::bytea[])
    ORDER BY key
    FOR UPDATE SKIP LOCKED
),
written AS (
    DELETE FROM {schema}."{table}" r USING asked, held
    WHERE r.key = asked.key AND r.key = held.key
        AND r.token = asked.token AND r.state = 1 AND r.expires_at > clock_timestamp()
    RETURNING r.key, r.token
)
{outcomes}
