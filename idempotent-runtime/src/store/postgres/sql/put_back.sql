-- is_same.sql, and where the session has changed restore.sql, in one statement: the record is sent behind it without waiting
-- for it. What puts the session back is not evaluated where there is nothing to put back.
--
-- $1 the session's settings as session.sql had them at the beginning, $2 the number of the transaction that was begun
SELECT found.id, found.is_same,
    CASE WHEN NOT found.is_same THEN (SELECT restored::text FROM (
        {restore}
    ) AS restored) END
FROM (
    {is_same}
    OFFSET 0
) AS found
