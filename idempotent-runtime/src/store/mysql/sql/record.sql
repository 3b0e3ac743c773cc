-- The record of a transaction, completed in that transaction. Its life begins now, however long the
-- handler took: no other session has seen it, so it cannot have expired. If the handler has set the
-- session's clock back, it begins when the transaction did.
UPDATE {records}
SET state = 2, status_code = ?, response = ?,
    expires_at = GREATEST(created_at, UTC_TIMESTAMP(6)) + INTERVAL ? MICROSECOND
WHERE record_key = ? AND token = ? AND state = 1
