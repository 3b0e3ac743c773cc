-- One message of the simple protocol: one round trip. It takes no parameters, {lock} is digits; and
-- nobody reads its rows, so that what the lock was answered is kept for enter.sql, as long as the
-- transaction lasts. Only that it is taken: a setting costs more to set and to forget than the lock.
BEGIN;
-- The lock goes with the transaction, however that ends.
SELECT CASE WHEN NOT pg_try_advisory_xact_lock({lock}) THEN set_config('idempotent.is_taken', 'true', true) END;
-- What the handler writes is undone up to here when it answers with an error. The lock is older, so
-- it stays.
SAVEPOINT idempotent_handler
