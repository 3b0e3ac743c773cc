-- Of a request that runs nothing.
ROLLBACK AND NO CHAIN NO RELEASE; SET wait_timeout = @idempotent_wait_timeout; DO RELEASE_ALL_LOCKS()
