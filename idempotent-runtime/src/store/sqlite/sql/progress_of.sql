-- How many bytes of progress a running claim has.
--
-- ?1 key, ?2 token, ?3 now
SELECT coalesce(length(progress), 0)
FROM main.{table}
WHERE record_key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3
