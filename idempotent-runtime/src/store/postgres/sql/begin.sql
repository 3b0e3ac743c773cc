-- One message of the simple protocol: one round trip. It takes no parameters, {locks} are digits in
-- statements; and its rows are not read, so that what the locks were answered is kept for enter.sql, as
-- long as the transaction lasts. Only that one is taken: a setting costs more to set and to forget
-- than the lock.
BEGIN;
-- A connection that is gone without a word keeps the locks no longer than this. What the limit was before
-- is kept for session.sql.
SELECT set_config('idempotent.idle_limit', current_setting('idle_in_transaction_session_timeout'), true);
SET LOCAL idle_in_transaction_session_timeout = {idle_ms};
-- The locks go with the transaction, however that ends.
{locks}
-- What the handler writes is undone up to here when it answers with an error. The locks are older, so
-- they stay.
SAVEPOINT idempotent_handler
