-- ?1 key, ?2 token, ?3 now
DELETE FROM main.{table}
WHERE record_key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3
