-- renew.sql for many records at once; a row comes back for each that was renewed.
--
-- {rows}: key, token, now, end of the lease, expiry. The last rows may be NULL.
UPDATE main.{table} AS record
SET lease_until = item.column4, expires_at = item.column5
FROM (VALUES {rows}) AS item
WHERE record.record_key = +item.column1 AND record.token = +item.column2 AND record.state = 'running'
    AND record.expires_at > item.column3
RETURNING record_key
