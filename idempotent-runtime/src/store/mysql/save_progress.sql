-- By the holder of the claim only. What is kept only grows: bytes that are not longer are an earlier
-- call that was late, and match the row all the same. The first parameter is their length.
UPDATE {table}
SET progress = IF(? > COALESCE(LENGTH(progress), 0), ?, progress)
WHERE record_key = ? AND token = ? AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
