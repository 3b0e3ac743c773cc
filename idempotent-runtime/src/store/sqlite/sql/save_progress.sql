-- What is kept only grows: bytes that are not longer are an earlier call that was late.
--
-- ?1 key, ?2 token, ?3 now, ?4 progress
UPDATE {table}
SET progress = iif(length(?4) > coalesce(length(progress), 0), ?4, progress)
WHERE key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3
