-- ?1 now, ?2 how many at most
DELETE FROM {table}
WHERE rowid IN (SELECT rowid FROM {table} WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)
