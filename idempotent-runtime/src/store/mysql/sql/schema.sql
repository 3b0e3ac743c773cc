-- Whether there is such a table, whether it is one of ours, its version, which is a column's default, and whether one key
-- can have one record only, on which a claim rests: a copy of a table may have no keys.
SELECT
    COUNT(*),
    COUNT(CASE WHEN COLUMN_NAME IN ('record_key', 'fingerprint', 'lease_until') THEN 1 END),
    CAST(MAX(CASE WHEN COLUMN_NAME = 'schema_version' THEN COLUMN_DEFAULT END) AS CHAR),
    COUNT(CASE WHEN COLUMN_KEY = 'PRI' THEN 1 END) = 1
        AND COUNT(CASE WHEN COLUMN_KEY = 'PRI' AND COLUMN_NAME = 'record_key' THEN 1 END) = 1
FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ?
