-- By the holder of the claim only. What is stored only grows: of the bytes, which begin at an offset,
-- those are appended that are not there. No row is matched if there are too few before them, and none if
-- the whole would be more than the server's functions can return, which would be NULL.
UPDATE {records}
SET progress = CONCAT(COALESCE(progress, ''), SUBSTRING(?, COALESCE(LENGTH(progress), 0) - ? + 1))
WHERE record_key = ? AND token = ? AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
    AND COALESCE(LENGTH(progress), 0) >= ?
    AND COALESCE(LENGTH(progress), 0) + ? <= @@max_allowed_packet
