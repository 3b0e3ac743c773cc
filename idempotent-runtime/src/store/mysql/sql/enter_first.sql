-- enter.sql on a connection of the application's pool, whatever was left open there. That is rolled back: its snapshot may
-- be too old to see the record. With autocommit a look is a transaction of its own, which leaves nothing open and locks
-- nothing, SERIALIZABLE or not; and the one behind the lock sees what the lock's last holder has committed.
--
-- The lock comes with the limit of the session (session_limit.sql), or a connection that is gone without a word would
-- keep it. Without the lock all is put back at once.
ROLLBACK AND NO CHAIN NO RELEASE;
{limit}, @idempotent_autocommit = @@autocommit, autocommit = 1;
{clock};
{enter};
SET autocommit = IF(@idempotent_lock <=> 1, 1, @idempotent_autocommit),
    wait_timeout = IF(@idempotent_lock <=> 1, @@wait_timeout, @idempotent_wait_timeout)
