-- The record of a transaction, completed in that transaction. Its life begins now, however long the
-- handler took: nobody else has seen it, so it cannot have expired.
UPDATE {table}
SET state = 2, status_code = ?, response = ?,
    expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE record_key = ? AND token = ? AND state = 1
