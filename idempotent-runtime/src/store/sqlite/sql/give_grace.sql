-- One last lease for the owner of an abandoned claim, unless that owner has abandoned it.
--
-- ?1 key, ?2 attempt, ?3 now, ?4 end of the lease, ?5 expiry
UPDATE main.{table}
SET lease_until = ?4, expires_at = ?5
WHERE record_key = ?1 AND attempt = ?2 AND state = 'running' AND token IS NOT NULL
    AND lease_until <= ?3 AND expires_at > ?3
