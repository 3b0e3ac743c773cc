-- read.sql for many keys at once, without the details. Keys may be NULL, so that one statement serves for
-- several numbers of them.
SELECT request_hash, token, state, attempt, created_at, lease_until, expires_at, response, NULL, NULL, NULL, key
FROM main.{table}
WHERE key IN (VALUES {rows})
