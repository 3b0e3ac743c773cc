-- One record a row. Times are microseconds since 1970 by this machine's clock.
--
-- Not WITHOUT ROWID: there a row lives in the tree of its random key, so every write changes a page
-- of its own among all the responses. With row ids the rows are appended, and only the small index
-- of keys is written at random. (Measured with 100,000 responses of 1 kB: twice as many claims and
-- completions in a second, and a third of the file.)
--
-- schema_version: its default says which schema it is. A default survives any dump and restore of the table.
--
-- What a state may be is not checked here: a later release may know more of them, and SQLite cannot
-- change a CHECK.
CREATE TABLE IF NOT EXISTS main.{table} (
    record_key            BLOB    NOT NULL PRIMARY KEY CHECK (length(record_key) = 32),
    fingerprint   BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    token          BLOB    CHECK (length(token) = 16), -- none once its owner has abandoned the claim
    state          TEXT    NOT NULL,
    attempt        INTEGER NOT NULL CHECK (attempt BETWEEN 1 AND 4294967295),
    status_code    INTEGER,
    created_at     INTEGER NOT NULL,
    lease_until    INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    purge_at       INTEGER NOT NULL, -- when the sweeper looks at it
    schema_version INTEGER NOT NULL DEFAULT 3,
    operation      TEXT    NOT NULL, -- at most 128 bytes
    label          TEXT, -- the application's own reference, at most 64 bytes
    response       BLOB,
    progress       BLOB,
    CHECK (state <> 'completed' OR response IS NOT NULL)
) STRICT
