-- The lock that tells a duplicate at once that its key is in flight: without it, the duplicate would
-- wait for the row. It goes with the connection, and no rule rests on it: the primary key decides. It comes
-- with the limit of the session (session_limit.sql), or a connection that is gone without a word would keep it; and with
-- autocommit, by which the look behind it has a snapshot of its own, and locks and leaves open nothing.
SELECT GET_LOCK('{lock}', 0)
