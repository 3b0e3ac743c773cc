-- Ends a session that says nothing more, and with it what it has not committed: a record of the key whose handler has ended
-- its transaction by itself would be waited for.
--
-- $1 when the server was started, $2 the session's backend
SELECT bool_and(pg_terminate_backend(pid)) AS is_ended FROM pg_stat_activity
WHERE pid = $2 AND pg_has_role(usesysid, 'USAGE')
    AND (date_part('epoch', pg_postmaster_start_time()) * 1e6::float8)::bigint = $1
