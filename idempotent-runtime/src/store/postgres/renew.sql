-- Renews what is held and returns the places, in the arrays, of what is not.
WITH asked AS MATERIALIZED (
    SELECT key, token, clock_timestamp() + make_interval(secs => lease_us / 1e6) AS lease_until, place
    FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) WITH ORDINALITY AS _ (key, token, lease_us, place)
),
renewed AS (
    UPDATE "{table}" r
    SET lease_until = asked.lease_until,
        expires_at = greatest(r.expires_at, asked.lease_until) -- mostly the same value: heap-only
    FROM asked
    WHERE r.key = asked.key AND r.token = asked.token AND r.state = 1 AND r.expires_at > clock_timestamp()
    RETURNING r.key, r.token
)
-- Not by place: an owner that is asked for twice is updated once.
SELECT place FROM asked
WHERE NOT EXISTS (SELECT FROM renewed WHERE renewed.key = asked.key AND renewed.token = asked.token)
