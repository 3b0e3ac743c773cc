-- The oldest first, along the index on expires_at, so that a batch reads no more rows than it
-- deletes.
DELETE FROM {table}
WHERE expires_at <= UTC_TIMESTAMP(6)
ORDER BY expires_at
LIMIT ?
