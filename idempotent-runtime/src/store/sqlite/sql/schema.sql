-- What the table was made with.
--
-- ?1 its name
SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE
