-- record.sql or record_again.sql, in one that fails with 22012 where no row is written. COMMIT is sent behind it without
-- waiting for it, and a transaction in which a statement has failed cannot commit.
WITH written AS (
    {record}
    RETURNING 1
)
SELECT 1 / count(*) FROM written
