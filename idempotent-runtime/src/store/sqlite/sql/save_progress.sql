-- Appends what is not there yet: bytes that are, are those of an earlier call that was late. Nothing is
-- written where there would be a gap.
--
-- Concatenated they are text to SQLite, byte for byte; the cast makes them bytes again. A piece of no bytes
-- is NULL to it.
--
-- ?1 key, ?2 token, ?3 now, ?4 where the bytes begin, ?5 bytes
UPDATE main.{table}
SET progress = CAST(
    coalesce(progress, x'') || coalesce(substr(?5, coalesce(length(progress), 0) - ?4 + 1), x'') AS BLOB)
WHERE record_key = ?1 AND token = ?2 AND state = 'running' AND expires_at > ?3 AND coalesce(length(progress), 0) >= ?4
