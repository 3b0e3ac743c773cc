-- Sent behind begin.sql. The lock is taken before the record is looked for, so that its holder sees
-- what the last holder has committed: under READ COMMITTED each statement has a snapshot of its own.
-- Under a stricter level the snapshot can be older than the lock, and under SERIALIZABLE a transaction that
-- has looked at a page of the index is in conflict with all that write to it: then look.sql is sent by a
-- connection of the store's, and nothing is read here (the condition is asked before the table is).
--
-- A record that has not expired counts, whatever session has the lock. Only a claim without a transaction leaves
-- one that runs. Without a record its columns are null. Times are compared by the reader: each function here
-- would be looked up and checked for each transaction, and most have no record.
--
-- A transaction that goes on will write its record, so it is given its number here: by that it is known, to is_same.sql and to
-- fate.sql.
--
-- $1 key
SELECT current_setting('idempotent.is_taken', true) AS is_taken,
    current_setting('transaction_isolation') AS isolation,
    current_setting('transaction_read_only') AS read_only,
    {session} AS session, clock_timestamp() AS now,
    r.fingerprint, r.state, r.response, r.attempt, r.created_at, r.lease_until, r.expires_at,
    CASE WHEN (r.expires_at > clock_timestamp()) IS NOT TRUE AND current_setting('transaction_read_only') = 'off'
            AND current_setting('idempotent.is_taken', true) = 'false'
        THEN txid_current() END AS id,
    pg_backend_pid() AS backend, (date_part('epoch', pg_postmaster_start_time()) * 1e6::float8)::bigint AS server
FROM (VALUES (1)) AS one LEFT JOIN (
    SELECT fingerprint, state, response, attempt, created_at, lease_until, expires_at
    FROM {schema}."{table}"
    WHERE record_key = $1 AND current_setting('transaction_isolation') = 'read committed'
    OFFSET 0 -- a query of its own
) AS r ON true
