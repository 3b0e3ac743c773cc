-- Back to what the connection was, as far as this store has changed it. The session's state is compared
-- with what it was.
SET autocommit = @idempotent_autocommit, wait_timeout = @idempotent_wait_timeout; DO RELEASE_ALL_LOCKS(); SELECT {session}
