-- By the holder of the claim only, once. The record's life begins now.
UPDATE {records}
SET state = 2, status_code = ?, response = ?, progress = NULL,
    expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE record_key = ? AND token = ? AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
