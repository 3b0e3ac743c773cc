-- How much progress a running claim has: asked only when a save matched no row.
SELECT CAST(COALESCE(LENGTH(progress), 0) AS UNSIGNED)
FROM {records}
WHERE record_key = ? AND token = ? AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
