-- Whether the server works on a statement of this transaction, asked by a connection of the store's. Without the right to see that
-- of the pool's role it does not say so. A session that reports no activity (`track_activities` off) is at work unless it waits for
-- its client.
--
-- $1 the transaction's number, $2 its backend
SELECT coalesce(bool_or(state = 'active' OR state = 'disabled' AND wait_event IS DISTINCT FROM 'ClientRead'), false) AS is_at_work
FROM pg_stat_activity
WHERE pid = $2 AND backend_xid::text::bigint = $1 & 4294967295
