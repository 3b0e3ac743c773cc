-- As record.sql, where an expired record was when the transaction began. No row is written when
-- there is a live one by now.
INSERT INTO {schema}."{table}" AS r
    (record_key, fingerprint, state, token, attempt, operation, label, status_code, response,
    created_at, lease_until, expires_at, purge_at)
VALUES ($1, $2, 2, $3, 1, $4, $8, $5, $6, transaction_timestamp(), transaction_timestamp(),
    clock_timestamp() + $7::float8 * interval '1 microsecond', clock_timestamp() + $7::float8 * interval '1 microsecond')
ON CONFLICT (record_key) DO UPDATE SET
    fingerprint = excluded.fingerprint, state = excluded.state, token = excluded.token,
    attempt = excluded.attempt, operation = excluded.operation, label = excluded.label, status_code = excluded.status_code,
    response = excluded.response, created_at = excluded.created_at, lease_until = excluded.lease_until,
    expires_at = excluded.expires_at, purge_at = excluded.purge_at, waited = false, progress = NULL
WHERE r.expires_at <= clock_timestamp()
