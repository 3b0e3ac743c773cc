-- Removes expired records. A row comes back for each: with its key and its operation if it was never
-- completed, else with NULLs.
--
-- ?1 now, ?2 how many at most
DELETE FROM main.{table}
WHERE rowid IN (SELECT rowid FROM main.{table} WHERE purge_at <= ?1 ORDER BY purge_at LIMIT ?2)
    AND expires_at <= ?1
RETURNING iif(state = 'completed', NULL, record_key), iif(state = 'completed', NULL, CAST(operation AS BLOB))
