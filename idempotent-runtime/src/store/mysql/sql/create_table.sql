-- Every column that is compared is binary: a collation of text would take two keys that differ in
-- case or in trailing blanks for one. `KEY` is a reserved word, hence `record_key`.
--
-- state: 1 running, 2 completed. token: NULL once its owner has abandoned it. operation and
-- status_code are for people who look at the table; the status that is replayed is in `response`. The
-- times are UTC by the server's clock. The default of schema_version is the schema's version: it is
-- there in each dump, with data or without. {table}_state is for operators, who list what is not
-- completed in the order of the keys: InnoDB has the primary key in each index.
CREATE TABLE IF NOT EXISTS {records} (
    record_key BINARY(32) NOT NULL,
    fingerprint BINARY(32) NOT NULL,
    state TINYINT UNSIGNED NOT NULL,
    token BINARY(16) NULL,
    attempt INT UNSIGNED NOT NULL,
    status_code SMALLINT UNSIGNED NULL,
    response LONGBLOB NULL,
    progress LONGBLOB NULL,
    created_at DATETIME(6) NOT NULL,
    lease_until DATETIME(6) NOT NULL,
    expires_at DATETIME(6) NOT NULL,
    operation TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    label VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    schema_version TINYINT UNSIGNED NOT NULL DEFAULT 3,
    PRIMARY KEY (record_key),
    KEY {table}_expires_at (expires_at),
    KEY {table}_state (state)
) ENGINE = InnoDB COMMENT = 'records of idempotent-runtime'
