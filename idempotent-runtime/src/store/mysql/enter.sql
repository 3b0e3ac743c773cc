-- The lock that tells a duplicate at once that its key is in flight: without it, the duplicate would
-- wait for the row. It goes with the connection, and no rule rests on it: the primary key decides.
SELECT GET_LOCK(?, 0), CAST(@@autocommit AS SIGNED)
