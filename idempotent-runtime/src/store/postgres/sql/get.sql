-- The statement's time is from before its snapshot, so that a lease that is renewed in between is
-- never read as ended.
SELECT fingerprint, operation, label, state, attempt, response, progress,
    (date_part('epoch', statement_timestamp() - created_at) * 1e6::float8)::bigint AS age_us,
    (date_part('epoch', lease_until - statement_timestamp()) * 1e6::float8)::bigint AS lease_left_us,
    (date_part('epoch', expires_at - statement_timestamp()) * 1e6::float8)::bigint AS expires_in_us
FROM {schema}."{table}"
WHERE record_key = $1 AND expires_at > statement_timestamp()
