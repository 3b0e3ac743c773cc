-- complete.sql for any other record: when to purge it is set too.
--
-- ?1 key, ?2 token, ?3 now, ?4 status code, ?5 response, ?6 expiry
UPDATE main.{table}
SET state = 'completed', status_code = ?4, response = ?5, progress = NULL, expires_at = ?6, purge_at = ?6
WHERE record_key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3
