-- A completion of a record that the sweeper will look at when it has expired and not much later, so that
-- the index need not be written.
--
-- ?1 key, ?2 token, ?3 now, ?4 status code, ?5 response, ?6 expiry, ?7 the latest time to purge it
UPDATE main.{table}
SET state = 'completed', status_code = ?4, response = ?5, progress = NULL, expires_at = ?6
WHERE record_key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3 AND purge_at BETWEEN ?6 AND ?7
