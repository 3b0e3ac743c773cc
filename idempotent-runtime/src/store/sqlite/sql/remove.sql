-- ?1 key
DELETE FROM {table}
WHERE key = ?1
