-- What a handler could change to the harm of the connection's next user, and leave.sql does not put back. The comments
-- are the servers' own: each executes those that are meant for it, MariaDB the first and MySQL the second.
CONCAT_WS('|', COALESCE(DATABASE(), '-'), COALESCE(CURRENT_ROLE(), '-'), CURRENT_USER(),
    /*M! @@tx_isolation, @@tx_read_only, @@max_statement_time, @@check_constraint_checks, @@system_versioning_asof,
    @@idle_transaction_timeout, @@idle_write_transaction_timeout, @@idle_readonly_transaction_timeout, */
    /*!80000 @@transaction_isolation, @@transaction_read_only, @@max_execution_time, */
    @@sql_mode, @@time_zone, @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@foreign_key_checks,
    @@unique_checks, @@sql_safe_updates, @@sql_select_limit, @@sql_big_selects, @@sql_log_bin, @@character_set_client,
    @@character_set_results, @@collation_connection, @@group_concat_max_len, @@div_precision_increment,
    @@auto_increment_increment, @@auto_increment_offset, @@default_week_format, @@lc_time_names, @@sql_auto_is_null,
    @@net_read_timeout, @@net_write_timeout)
