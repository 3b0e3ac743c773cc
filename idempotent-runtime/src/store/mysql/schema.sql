-- What a start must know: whether a statement commits by itself, and the comment of the table,
-- which is its version (NULL when there is no table).
SELECT
    CAST(@@autocommit AS SIGNED),
    (
        SELECT TABLE_COMMENT
        FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?
    )
