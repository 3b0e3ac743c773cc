-- The record of a transaction, completed in that transaction. Its life begins now, however long the
-- handler took: no other session has seen it, so it cannot have expired. If the handler has set the
-- session's clock back, it begins when the transaction did; if it has set it ahead, so long after that as the third parameter says, in
-- microseconds.
UPDATE {records}
SET state = 2, status_code = ?, response = ?,
    expires_at = LEAST(GREATEST(created_at, UTC_TIMESTAMP(6)), created_at + INTERVAL ? MICROSECOND) + INTERVAL ? MICROSECOND
WHERE record_key = ? AND token = ? AND state = 1
