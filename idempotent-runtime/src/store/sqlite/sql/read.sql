-- {details} is `operation, progress, label`, or NULLs for a caller who does not need them, nor their pages.
--
-- ?1 key
SELECT fingerprint, token, state, attempt, created_at, lease_until, expires_at, response, {details}
FROM main.{table}
WHERE record_key = ?1
