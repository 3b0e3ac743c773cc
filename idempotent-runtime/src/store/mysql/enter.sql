-- The lock that tells a duplicate at once that its key is in flight: without it, the duplicate would
-- wait for the row. It goes with the connection, and no rule rests on it: the primary key decides.
-- Its name is of the whole server, so the database is in it.
SELECT GET_LOCK(LEFT(SHA2(CONCAT_WS(' ', DATABASE(), '{table}', HEX(?)), 256), 60), 0)
