-- Whether the session is as it was, and when its transaction began: sent before the record is written, and when
-- a connection is given back. Names nothing but what every role and every path can see.
--
-- $1 the session's settings as session.sql had them at the beginning
SELECT (pg_catalog.date_part('epoch', pg_catalog.transaction_timestamp()) * 1e6)::bigint AS begun_us,
    {session} = $1::text[] AS is_same
