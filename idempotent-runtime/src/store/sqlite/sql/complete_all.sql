-- complete.sql for many at once.
--
-- ?1 now; {rows}: key, token, status code, response. The last rows may be NULL, so that one statement
-- serves for several numbers of completions.
UPDATE {table}
SET state = 'completed', status_code = done.column3, response = done.column4, progress = NULL
FROM (VALUES {rows}) AS done
-- The plus keeps SQLite from going through the whole table and looking each record up among the rows.
WHERE {table}.key = +done.column1 AND {table}.token = +done.column2
    AND state = 'running' AND expires_at > ?1
