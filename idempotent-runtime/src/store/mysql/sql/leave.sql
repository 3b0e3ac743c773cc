-- Back to what the connection was, as far as this store has changed it, with nothing open or locked and the server's clock.
-- The session's state is compared with what it was.
ROLLBACK AND NO CHAIN NO RELEASE;
UNLOCK TABLES;
SET autocommit = @idempotent_autocommit, completion_type = @idempotent_completion_type,
    wait_timeout = @idempotent_wait_timeout
    /*!80000 , SESSION transaction_read_only = @idempotent_read_only */
    /*M! , SESSION tx_read_only = @idempotent_read_only, max_statement_time = @idempotent_statement_time */;
{clock};
DO RELEASE_ALL_LOCKS();
SELECT {session}
