-- ?1 key
DELETE FROM main.{table}
WHERE key = ?1
