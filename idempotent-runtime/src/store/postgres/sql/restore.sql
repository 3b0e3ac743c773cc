-- Sent before the record is written where is_same.sql says that the session has changed: the handler may have
-- changed its role, its `search_path` or a limit for its transaction (row-level security, a schema for each
-- tenant), or for the session, and the record is written all the same. Names nothing but what every role and
-- every path can see.
--
-- Where the transaction is the one that was begun, all is put back for its rest only; where the handler has
-- ended that one, for the session.
--
-- $1 the session's settings as session.sql had them at the beginning, $2 whether the transaction is that one
SELECT
    CASE WHEN now.session[1] <> ($1::text[])[1]
        THEN pg_catalog.set_config('session_authorization', ($1::text[])[1], $2) END,
    CASE WHEN now.session[1:2] OPERATOR(pg_catalog.<>) ($1::text[])[1:2]
        THEN pg_catalog.set_config('role', ($1::text[])[2], $2) END,
    CASE WHEN now.session[3] <> ($1::text[])[3]
        THEN pg_catalog.set_config('search_path', ($1::text[])[3], $2) END,
    CASE WHEN now.session[4] <> ($1::text[])[4]
        THEN pg_catalog.set_config('row_security', ($1::text[])[4], $2) END,
    CASE WHEN now.session[5] <> ($1::text[])[5]
        THEN pg_catalog.set_config('statement_timeout', ($1::text[])[5], $2) END,
    CASE WHEN now.session[6] <> ($1::text[])[6]
        THEN pg_catalog.set_config('lock_timeout', ($1::text[])[6], $2) END,
    -- Only a superuser may have changed it, who may be back by now.
    CASE WHEN now.session[7] <> ($1::text[])[7]
        THEN pg_catalog.set_config('session_replication_role', ($1::text[])[7], $2) END
FROM (SELECT {session} AS session OFFSET 0) AS now -- once, and not for each of its members
