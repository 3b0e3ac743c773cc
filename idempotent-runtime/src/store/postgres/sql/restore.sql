-- Sent before the record is written: the handler may have changed its role, its `search_path` or a limit for
-- its transaction (row-level security, a schema for each tenant), or for the session, and the record is
-- written all the same. Names nothing but what every role and every path can see.
--
-- Where the transaction is the one that was begun, all is put back for its rest only; where the handler has
-- ended that one, for the session.
--
-- $1 the session's settings as session.sql had them at the beginning, $2 when the transaction began
SELECT now.begun_us, now.session <> $1::text[] AS is_changed,
    CASE WHEN now.session[1] <> ($1::text[])[1]
        THEN pg_catalog.set_config('session_authorization', ($1::text[])[1], now.begun_us = $2) END,
    CASE WHEN now.session[1:2] <> ($1::text[])[1:2]
        THEN pg_catalog.set_config('role', ($1::text[])[2], now.begun_us = $2) END,
    CASE WHEN now.session[3] <> ($1::text[])[3]
        THEN pg_catalog.set_config('search_path', ($1::text[])[3], now.begun_us = $2) END,
    CASE WHEN now.session[4] <> ($1::text[])[4]
        THEN pg_catalog.set_config('row_security', ($1::text[])[4], now.begun_us = $2) END,
    CASE WHEN now.session[5] <> ($1::text[])[5]
        THEN pg_catalog.set_config('statement_timeout', ($1::text[])[5], now.begun_us = $2) END,
    CASE WHEN now.session[6] <> ($1::text[])[6]
        THEN pg_catalog.set_config('lock_timeout', ($1::text[])[6], now.begun_us = $2) END,
    -- Only a superuser may have changed it, who may be back by now.
    CASE WHEN now.session[7] <> ($1::text[])[7]
        THEN pg_catalog.set_config('session_replication_role', ($1::text[])[7], now.begun_us = $2) END
FROM (SELECT (pg_catalog.date_part('epoch', transaction_timestamp()) * 1e6)::bigint AS begun_us,
    {session} AS session) AS now
