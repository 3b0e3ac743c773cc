-- The completed record, in the handler's transaction. Where a record is there, somebody else was first,
-- and this fails with 23505. (Until that somebody has committed or not, it waits.)
--
-- $1 key, $2 request hash, $3 token, $4 status code, $5 response, $6 TTL in microseconds
INSERT INTO "{table}"
    (key, request_hash, state, token, attempt, status_code, response, created_at, lease_until, expires_at)
VALUES ($1, $2, 2, $3, 1, $4, $5, transaction_timestamp(), transaction_timestamp(),
    clock_timestamp() + $6 * interval '1 microsecond')
RETURNING (date_part('epoch', transaction_timestamp()) * 1e6)::bigint AS begun_us
