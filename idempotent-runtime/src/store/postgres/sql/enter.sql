-- Sent behind begin.sql. The lock is taken before the record is looked for, so that its holder sees
-- what the last holder has committed: under READ COMMITTED each statement has a snapshot of its own.
-- Under a stricter level the snapshot can be older than the lock, and under SERIALIZABLE a transaction that
-- has looked at a page of the index is in conflict with all that write to it: then look.sql is sent by a
-- connection of the store's, and nothing is read here (the condition is asked before the table is).
--
-- A record that has not expired counts, whatever session has the lock. Only a claim without a transaction leaves
-- one that runs. Without a record its columns are null.
--
-- $1 key
SELECT coalesce(current_setting('idempotent.is_taken', true), '') = '' AS is_ours,
    (date_part('epoch', transaction_timestamp()) * 1e6)::bigint AS begun_us,
    current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') AS is_strict,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    {session} AS session,
    r.request_hash, r.state, r.response, r.attempt, r.expires_at <= clock_timestamp() AS is_expired,
    (date_part('epoch', clock_timestamp() - r.created_at) * 1e6)::bigint AS age_us,
    (date_part('epoch', r.lease_until - clock_timestamp()) * 1e6)::bigint AS lease_left_us
FROM (VALUES (1)) AS one LEFT JOIN (
    SELECT * FROM {schema}."{table}"
    WHERE key = $1 AND current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
    OFFSET 0 -- a query of its own
) AS r ON true
