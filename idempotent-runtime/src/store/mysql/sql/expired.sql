-- The oldest first, along the index on expires_at, so that a batch reads no more rows than it deletes.
-- What another process is purging is skipped.
SELECT record_key, state, operation
FROM {records} FORCE INDEX ({table}_expires_at)
WHERE expires_at <= UTC_TIMESTAMP(6)
ORDER BY expires_at
LIMIT {limit}
FOR UPDATE SKIP LOCKED
