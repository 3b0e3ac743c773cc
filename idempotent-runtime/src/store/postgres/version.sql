-- No row: no table. NULL: a table without a comment.
SELECT obj_description(oid, 'pg_class') AS comment FROM pg_class WHERE oid = to_regclass('"{table}"')
