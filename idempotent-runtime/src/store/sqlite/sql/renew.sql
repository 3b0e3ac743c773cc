-- A claim that was not taken over, though its lease may have ended.
--
-- ?1 key, ?2 token, ?3 now, ?4 end of the lease, ?5 expiry
UPDATE main.{table}
SET lease_until = ?4, expires_at = ?5
WHERE record_key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3
