-- Locks the key unless there is a record, and looks at it: a request that only looks takes no lock. The lock tells a duplicate
-- at once that its key is in flight: without it, the duplicate would wait for the row. It goes with the connection, and no
-- rule rests on it: the primary key decides. 1 is locked, 2 is a record, 0 is another session's.
--
-- INTO and not SET, which locks what it reads under some isolation levels.
--
-- What is read decides, so that it must be committed: READ UNCOMMITTED, as a session may have it, would show the record of a
-- transaction that still runs. The level is that of the next statement only.
SELECT CASE WHEN EXISTS (SELECT 1 FROM {records} WHERE record_key = {key} AND expires_at > UTC_TIMESTAMP(6)) THEN 2
    ELSE GET_LOCK('{lock}', 0) END INTO @idempotent_lock;
SELECT CAST(@idempotent_lock AS SIGNED), {before};
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
{read}
