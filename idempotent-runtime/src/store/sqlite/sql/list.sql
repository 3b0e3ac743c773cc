-- So many records in the order of their keys, expired ones too, without their responses: which of them are
-- listed is decided by their reader. {which} is `state = 'running' AND`, for which there is an index, or
-- nothing.
--
-- ?1 the key after which to begin, ?2 how many
SELECT record_key, state, attempt, created_at, lease_until, expires_at, operation, label,
    coalesce(length(response), length(progress), 0)
FROM main.{table}
WHERE {which} record_key > ?1
ORDER BY record_key
LIMIT ?2
