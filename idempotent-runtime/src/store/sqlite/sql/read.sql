-- {details} is `operation, progress, label`, or NULLs for a caller who does not need them, nor their pages.
--
-- ?1 key
SELECT request_hash, token, state, attempt, created_at, lease_until, expires_at, response, {details}
FROM main.{table}
WHERE key = ?1
