-- read.sql for many keys at once, without the details. Keys may be NULL, so that one statement serves for
-- several numbers of them.
SELECT fingerprint, token, state, attempt, created_at, lease_until, expires_at, response, NULL, NULL, NULL, record_key
FROM main.{table}
WHERE record_key IN (VALUES {rows})
