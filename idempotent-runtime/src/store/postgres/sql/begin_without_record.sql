-- begin.sql for a transaction without a record. The limits are those of lock.sql. A savepoint that is gone says that the
-- handler has ended the transaction.
BEGIN NOT DEFERRABLE;
SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', '{idle_ms}', true),
    CASE WHEN pg_catalog.current_setting('client_connection_check_interval', true) IS NOT NULL
            AND pg_catalog.current_setting('dynamic_shared_memory_type') <> 'windows'
        THEN pg_catalog.set_config('client_connection_check_interval', '1000', true) END;
SAVEPOINT idempotent_handler
