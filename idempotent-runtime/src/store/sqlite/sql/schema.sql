-- What the table was made with, and its version if it has one.
--
-- ?1 its name
SELECT sql, (SELECT dflt_value FROM pragma_table_info(?1, 'main') WHERE name = 'schema_version')
FROM main.sqlite_schema
WHERE type = 'table' AND name = ?1 COLLATE NOCASE
