-- The table's engine, and how many of its two indexes are there.
SELECT CAST(t.ENGINE AS BINARY),
    (SELECT COUNT(DISTINCT s.INDEX_NAME) FROM information_schema.STATISTICS s
     WHERE s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME
       AND s.INDEX_NAME IN (CONCAT(t.TABLE_NAME, '_state'), CONCAT(t.TABLE_NAME, '_expires_at')))
FROM information_schema.TABLES t
WHERE t.TABLE_SCHEMA = COALESCE(?, DATABASE()) AND t.TABLE_NAME = ?
