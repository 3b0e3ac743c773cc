-- Where the table is, and which schema it says it has. No row: no table. NULL: a table without that column.
-- $1 is the table's name as a string, with its schema where one was chosen; else the session's
-- `search_path` is asked, once.
SELECT n.nspname::text AS schema,
    pg_get_expr(d.adbin, d.adrelid) AS version, obj_description(c.oid, 'pg_class') AS comment
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid = c.oid AND a.attname = 'schema_version' AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.oid = to_regclass($1)
