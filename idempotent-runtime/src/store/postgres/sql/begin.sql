-- One message of the simple protocol: one round trip. It takes no parameters, {locks} are digits in
-- statements; and its rows are not read, so that what the locks were answered is kept for enter.sql, as
-- long as the transaction lasts.
--
-- The locks go with the transaction, however that ends. What the handler writes is undone up to the savepoint
-- when it answers with an error. The locks are older, so they stay.
--
-- A connection may come back to the pool with a transaction of other code still open, in which BEGIN alone is only a warning: what was
-- left there would be committed with this record. NOT DEFERRABLE is the default, and an error (25001) behind any query.
--
-- A handler may have left a value of its own in the session, where the locks' answer is kept.
BEGIN NOT DEFERRABLE;
SET LOCAL idempotent.is_taken = 'false';
{locks}
SAVEPOINT idempotent_handler
