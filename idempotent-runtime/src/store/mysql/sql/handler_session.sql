-- For the connections that `connect` opens for handlers. Strict, so that nothing is ever cut to fit; READ
-- COMMITTED, so that a handler locks no gaps that others have to write into; and no long waits for a row.
SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), autocommit = 1, innodb_lock_wait_timeout = 1;
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE
