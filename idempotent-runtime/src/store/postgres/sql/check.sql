-- Whether the table survives a crash, how many of its two indexes can be used, and whether this user may do all that the
-- store does, with the table and with its functions, whether policies hide rows from it, and whether all functions are there.
--
-- $1 the schema, $2 the table's name
SELECT c.relpersistence = 'u' AS unlogged,
    (SELECT count(*) FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisvalid AND x.relname IN ($2 || '_uncompleted', $2 || '_purge_at')) AS indexes,
    has_schema_privilege(n.oid, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
        AND f.executable = f.present AS allowed,
    row_security_active(c.oid) AS secured,
    f.present = 6 AS complete
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT count(*) AS present, count(*) FILTER (WHERE has_function_privilege(p.oid, 'EXECUTE')) AS executable
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = n.oid
    AND p.proname IN ($2 || '_claim', $2 || '_complete', $2 || '_group', $2 || '_lock', $2 || '_save_progress', $2 || '_wait')
) AS f
WHERE n.nspname = $1 AND c.relname = $2
