-- The claim of a key without a record: nearly all are. Where there is a record, nothing is written, and claim.sql
-- decides. It waits for a record that another transaction has inserted and not committed.
--
-- The conflict is named: a table that has lost its primary key takes no claims.
--
-- Plain, because a statement of a function costs as much again as the statement.
--
-- $1 key, $2 fingerprint, $3 token, $4 operation, $5 label, $6 lease and $7 retention in microseconds, $8 progress
INSERT INTO {schema}."{table}"
    (record_key, fingerprint, state, token, attempt, operation, label, progress, created_at, lease_until, expires_at)
VALUES ($1, $2, 1, $3, 1, $4, $5, $8, clock_timestamp(), clock_timestamp() + $6::float8 * interval '1 microsecond',
    clock_timestamp() + ($6 + $7)::float8 * interval '1 microsecond')
ON CONFLICT (record_key) DO NOTHING
