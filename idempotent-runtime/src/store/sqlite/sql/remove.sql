-- ?1 key
DELETE FROM main.{table}
WHERE record_key = ?1
