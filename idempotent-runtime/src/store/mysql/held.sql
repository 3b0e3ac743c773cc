-- Which of these claims are still held; asked only when a renewal matched fewer rows than claims.
SELECT record_key, token
FROM {table}
WHERE ({owners}) AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
