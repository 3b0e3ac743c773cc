-- Where the table is, and which schema it says it has. No row: no table. NULL: a table without that column.
-- Whether one key can have one record only, on which a claim rests: not before a restore has made the index.
-- $1 is the table's name as a string, with its schema where one was chosen; else the session's
-- `search_path` is asked, once.
SELECT n.nspname::text AS schema,
    pg_get_expr(d.adbin, d.adrelid) AS version, obj_description(c.oid, 'pg_class') AS comment,
    EXISTS (
        SELECT FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_attribute k ON k.attrelid = c.oid AND k.attnum = i.indkey[0] AND k.attname = 'record_key'
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indnkeyatts = 1
            AND i.indpred IS NULL
    ) AS has_key
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid = c.oid AND a.attname = 'schema_version' AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.oid = to_regclass($1)
