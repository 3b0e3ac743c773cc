-- The savepoint between what this store has prepared and what the handler writes.
--
-- All transactions of the session but the one that has begun are read-only: should that end before the record is written,
-- by the handler's own COMMIT or ROLLBACK, or by a statement that commits, then nothing that the handler goes on to write
-- can be committed without the record. A rollback by the server does not end the mode of the one that has begun.
--
-- No statement runs longer than the session may be silent (session_limit.sql): it would not end when its client goes away,
-- and keep the locks. MySQL has no such limit but for SELECT.
SET /*!80000 SESSION transaction_read_only = 1 */
    /*M! SESSION tx_read_only = 1,
    max_statement_time = IF(@@max_statement_time = 0, @@wait_timeout, LEAST(@@max_statement_time, @@wait_timeout)) */;
SAVEPOINT idempotent_handler
