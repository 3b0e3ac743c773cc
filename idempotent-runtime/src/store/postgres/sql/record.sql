-- The completed record, in the handler's transaction. Where a record is there, another transaction was
-- first, and this fails with 23505. (Until that one has committed or not, it waits.)
--
-- $1 key, $2 fingerprint, $3 token, $4 operation, $5 status code, $6 response, $7 TTL in microseconds, $8 label
INSERT INTO {schema}."{table}"
    (record_key, fingerprint, state, token, attempt, operation, label, status_code, response,
    created_at, lease_until, expires_at, purge_at)
VALUES ($1, $2, 2, $3, 1, $4, $8, $5, $6, transaction_timestamp(), transaction_timestamp(),
    clock_timestamp() + $7::float8 * interval '1 microsecond', clock_timestamp() + $7::float8 * interval '1 microsecond')
