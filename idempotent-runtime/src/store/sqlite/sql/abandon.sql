-- The lease ends, and the token goes: what comes late with it is lost.
--
-- ?1 key, ?2 token, ?3 now
UPDATE main.{table}
SET lease_until = min(lease_until, ?3), token = NULL
WHERE record_key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3
