-- The record for enter.sql, by another connection. Without a record its columns are null.
--
-- $1 key
SELECT r.request_hash, r.state, r.response, r.attempt, r.expires_at <= clock_timestamp() AS is_expired,
    (date_part('epoch', clock_timestamp() - r.created_at) * 1e6)::bigint AS age_us,
    (date_part('epoch', r.lease_until - clock_timestamp()) * 1e6)::bigint AS lease_left_us
FROM (VALUES (1)) AS one LEFT JOIN {schema}."{table}" AS r
    ON r.key = $1
