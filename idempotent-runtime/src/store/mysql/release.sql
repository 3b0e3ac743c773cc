-- By the holder of the claim only, and never what is completed.
DELETE FROM {table}
WHERE record_key = ? AND token = ? AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
