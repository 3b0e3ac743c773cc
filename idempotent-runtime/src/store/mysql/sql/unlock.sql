-- Of a request that runs nothing.
SET wait_timeout = @idempotent_wait_timeout; DO RELEASE_ALL_LOCKS()
