-- release.sql for many records at once; a row comes back for each that was released.
--
-- {rows}: key, token, now. The last rows may be NULL.
DELETE FROM main.{table}
WHERE rowid IN (
    SELECT record.rowid
    -- CROSS: first the rows, then each one's record by its key.
    FROM (VALUES {rows}) AS item CROSS JOIN main.{table} AS record
    WHERE record.record_key = item.column1 AND record.token = item.column2 AND record.state = 'running'
        AND record.expires_at > item.column3
)
RETURNING record_key
