-- Records that the sweeper looks at too early: it looks again when they expire.
--
-- ?1 now, ?2 how many at most
UPDATE main.{table}
SET purge_at = expires_at
WHERE rowid IN (SELECT rowid FROM main.{table} WHERE purge_at <= ?1 ORDER BY purge_at LIMIT ?2)
    AND expires_at > ?1
