-- Whether the session is as it was, and the number of its transaction: sent before the record is written, and when
-- a connection is given back. Names nothing but what every role and every path can see.
--
-- From here on the transaction goes on without its client (lock.sql): a slow COMMIT that was asked for is not undone because
-- its reply is not waited for.
--
-- $1 the session's settings as session.sql had them at the beginning
SELECT pg_catalog.txid_current_if_assigned() AS id,
    {session} OPERATOR(pg_catalog.=) $1::text[] AS is_same,
    CASE WHEN pg_catalog.current_setting('client_connection_check_interval', true) <> '0'
        THEN pg_catalog.set_config('client_connection_check_interval', '0', true) END AS unchecked
