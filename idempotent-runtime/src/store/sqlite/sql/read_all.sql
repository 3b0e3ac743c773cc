-- read.sql for many keys at once, without the progress. Keys may be NULL, so that one statement serves for
-- several numbers of them.
SELECT request_hash, token, state, attempt, created_at, lease_until, expires_at, response, NULL, key
FROM {table}
WHERE key IN (VALUES {rows})
