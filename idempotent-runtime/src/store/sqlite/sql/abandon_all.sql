-- abandon.sql for many records at once; a row comes back for each that was abandoned.
--
-- {rows}: key, token, now. The last rows may be NULL.
UPDATE main.{table} AS record
SET lease_until = min(record.lease_until, item.column3), token = NULL
FROM (VALUES {rows}) AS item
WHERE record.record_key = +item.column1 AND record.token = +item.column2 AND record.state = 'running'
    AND record.expires_at > item.column3
RETURNING record_key
