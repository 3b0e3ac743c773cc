-- By the holder of the claim only, once; `expires_at` stays, so its index is not written.
UPDATE {table}
SET state = 2, status_code = ?, response = ?, progress = NULL
WHERE record_key = ? AND token = ? AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
