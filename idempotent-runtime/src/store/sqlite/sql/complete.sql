-- ?1 key, ?2 token, ?3 now, ?4 status code, ?5 response
UPDATE {table}
SET state = 'completed', status_code = ?4, response = ?5, progress = NULL
WHERE key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3
