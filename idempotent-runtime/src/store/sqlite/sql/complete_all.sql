-- complete.sql for many at once.
--
-- {rows}: key, token, now, status code, response, expiry, the latest time to purge it. The last rows may be
-- NULL, so that one statement serves for several numbers of completions.
UPDATE main.{table} AS record
SET state = 'completed', status_code = done.column4, response = done.column5, progress = NULL, expires_at = done.column6
FROM (VALUES {rows}) AS done
-- The plus keeps SQLite from going through the whole table and looking each record up among the rows.
WHERE record.record_key = +done.column1 AND record.token = +done.column2 AND record.state = 'running'
    AND record.expires_at > done.column3 AND record.purge_at BETWEEN done.column6 AND done.column7
