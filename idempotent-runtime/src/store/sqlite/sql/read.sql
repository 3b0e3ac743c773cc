-- ?1 key
SELECT request_hash, token, state, attempt, created_at, lease_until, expires_at, response
FROM {table}
WHERE key = ?1
