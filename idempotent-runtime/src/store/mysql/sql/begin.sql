-- The explicit mode is the transaction's own, whatever the server's default is, and so is completion_type: the driver
-- ends it with a bare COMMIT or ROLLBACK. leave.sql puts back what they were, and the session's mode, which prepare.sql
-- changes.
SET autocommit = 0, @idempotent_completion_type = @@completion_type, completion_type = 'NO_CHAIN',
    @idempotent_read_only = /*M! @@tx_read_only, @idempotent_statement_time = @@max_statement_time */
    /*!80000 @@transaction_read_only */;
START TRANSACTION{mode}
