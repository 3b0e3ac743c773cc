-- {progress} is `progress`, or `NULL` for who does not ask for it and need not read its pages.
--
-- ?1 key
SELECT request_hash, token, state, attempt, created_at, lease_until, expires_at, response, {progress}
FROM {table}
WHERE key = ?1
