-- What has become of a transaction whose connection does not say, asked by a connection of the store's. One that goes on can be
-- ended with its session, if this role may: nothing waits for it any more, and it holds the key's lock.
--
-- Only the server that has begun it knows its number. Another one, or the same one started again, does not say whether it was
-- committed before.
--
-- $1 when the server was started, $2 the transaction's number, $3 its backend, $4 whether one that goes on is ended: not where
-- its COMMIT was sent, which may wait for a standby
SELECT CASE WHEN is_its THEN txid_status($2) ELSE 'elsewhere' END AS status,
    CASE WHEN is_its AND $4 THEN (
        SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE pid = $3 AND backend_xid::text::bigint = $2 & 4294967295 AND pg_has_role(usesysid, 'USAGE')
    ) END AS is_ended
FROM (
    SELECT (date_part('epoch', pg_postmaster_start_time()) * 1e6::float8)::bigint = $1 AS is_its OFFSET 0
) AS server
