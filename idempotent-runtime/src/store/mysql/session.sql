-- For the connections that `connect` opens. Strict, so that nothing is ever cut to fit; READ
-- COMMITTED, so that purging locks no gaps that new claims have to go into; and no long waits for a
-- row, since no operation holds one for longer than a statement.
SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), autocommit = 1, innodb_lock_wait_timeout = 1;
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED
