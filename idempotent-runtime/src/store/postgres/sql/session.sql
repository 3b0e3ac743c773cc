-- What a handler can change in its session that matters to who has the connection next, or to the record.
-- The first seven are put back by restore.sql.
ARRAY[current_setting('session_authorization'), current_setting('role'), current_setting('search_path'),
    current_setting('row_security'), current_setting('statement_timeout'), current_setting('lock_timeout'),
    current_setting('session_replication_role'),
    current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'),
    current_setting('default_transaction_deferrable'),
    -- begin.sql has set another one for the transaction.
    coalesce(nullif(current_setting('idempotent.idle_limit', true), ''), current_setting('idle_in_transaction_session_timeout')),
    current_setting('synchronous_commit'), current_setting('timezone'), current_setting('datestyle'),
    current_setting('intervalstyle'), current_setting('client_encoding'), current_setting('bytea_output'),
    current_setting('standard_conforming_strings'), current_setting('application_name')]
