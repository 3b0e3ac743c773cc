-- Whether the session is as it was. $1 as in restore.sql
SELECT {session} = $1::text[] AS is_same
