-- Ends the session when the server has heard nothing for so long, until leave.sql or unlock.sql puts back what
-- the limit was: a connection that is gone without a word must not keep its locks for hours.
SET @idempotent_wait_timeout = @@wait_timeout, wait_timeout = {secs}
