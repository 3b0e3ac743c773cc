-- Whether there is such a table, whether it is one of ours, and its version, which is a column's default.
SELECT
    COUNT(*),
    COUNT(CASE WHEN COLUMN_NAME IN ('record_key', 'fingerprint', 'lease_until') THEN 1 END),
    CAST(MAX(CASE WHEN COLUMN_NAME = 'schema_version' THEN COLUMN_DEFAULT END) AS CHAR)
FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = COALESCE(?, DATABASE()) AND TABLE_NAME = ?
