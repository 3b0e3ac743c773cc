-- One message of the simple protocol: one round trip. It takes no parameters, {locks} are digits in
-- statements; and nobody reads its rows, so that what the locks were answered is kept for enter.sql, as
-- long as the transaction lasts. Only that one is taken: a setting costs more to set and to forget
-- than the lock.
BEGIN;
-- The locks go with the transaction, however that ends.
{locks}
-- What the handler writes is undone up to here when it answers with an error. The locks are older, so
-- they stay.
SAVEPOINT idempotent_handler
