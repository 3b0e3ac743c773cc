-- What a handler can change in its session that matters to who has the connection next, or to the record.
-- The first seven are put back by restore.sql. Each function with its schema: a handler's path can have one of that name.
ARRAY[pg_catalog.current_setting('session_authorization'), pg_catalog.current_setting('role'), pg_catalog.current_setting('search_path'),
    pg_catalog.current_setting('row_security'), pg_catalog.current_setting('statement_timeout'), pg_catalog.current_setting('lock_timeout'),
    pg_catalog.current_setting('session_replication_role'),
    pg_catalog.current_setting('default_transaction_isolation'), pg_catalog.current_setting('default_transaction_read_only'),
    pg_catalog.current_setting('default_transaction_deferrable'),
    -- The lock's procedure has set another one for the transaction.
    CASE pg_catalog.current_setting('idle_in_transaction_session_timeout')
        WHEN nullif(pg_catalog.current_setting('idempotent.idle_own', true), '')
        THEN pg_catalog.current_setting('idempotent.idle_limit', true)
        ELSE pg_catalog.current_setting('idle_in_transaction_session_timeout') END,
    pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('timezone'), pg_catalog.current_setting('datestyle'),
    pg_catalog.current_setting('intervalstyle'), pg_catalog.current_setting('client_encoding'), pg_catalog.current_setting('bytea_output'),
    pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('application_name'),
    -- Since versions 14 and 17.
    coalesce(pg_catalog.current_setting('idle_session_timeout', true), ''),
    coalesce(pg_catalog.current_setting('transaction_timeout', true), '')]
