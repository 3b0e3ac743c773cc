-- Of a request that runs nothing.
SET autocommit = @idempotent_autocommit, wait_timeout = @idempotent_wait_timeout; DO RELEASE_ALL_LOCKS()
