-- For the store's own connections: no default of the server's matters. The mode is strict and has nothing
-- that changes what a statement means; no result is cut short, or refused for its size; each statement commits, and COMMIT neither begins another transaction nor ends the
-- connection; READ COMMITTED, so that neither purging nor a write that matches nothing locks a gap that new claims have
-- to go into; and no long waits for a row or for a table. The answer is the most bytes that a packet of this connection
-- may have.
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, completion_type = 'NO_CHAIN',
    time_zone = '+00:00', innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, sql_safe_updates = 0,
    sql_select_limit = 18446744073709551615, sql_big_selects = 1;
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
SELECT CAST(@@max_allowed_packet AS UNSIGNED)
