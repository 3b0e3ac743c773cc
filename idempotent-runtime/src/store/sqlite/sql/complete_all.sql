-- complete.sql for many at once.
--
-- {rows}: key, token, now, status code, response. The last rows may be NULL, so that one statement
-- serves for several numbers of completions.
UPDATE {table}
SET state = 'completed', status_code = done.column4, response = done.column5, progress = NULL
FROM (VALUES {rows}) AS done
-- The plus keeps SQLite from going through the whole table and looking each record up among the rows.
WHERE {table}.key = +done.column1 AND {table}.token = +done.column2
    AND state = 'running' AND expires_at > done.column3
