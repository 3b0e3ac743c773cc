-- The record of a transaction, completed in that transaction. Its life begins now, however long the
-- handler took: no other connection has seen it, so it cannot have expired.
--
-- ?1 key, ?2 token, ?3 expiry, ?4 status code, ?5 response
UPDATE main.{table}
SET state = 'completed', status_code = ?4, response = ?5, expires_at = ?3
WHERE record_key = ?1 AND token = ?2 AND state = 'running'
