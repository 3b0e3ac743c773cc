-- read.sql on a connection of the application's pool, whatever was left open there. That is rolled back: its snapshot
-- may be too old to see the record. With autocommit the look is a transaction of its own, which leaves nothing open and
-- locks nothing, SERIALIZABLE or not.
ROLLBACK AND NO CHAIN NO RELEASE;
SET @idempotent_autocommit = @@autocommit, autocommit = 1;
{clock};
{read};
SET autocommit = @idempotent_autocommit
