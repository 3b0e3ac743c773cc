-- A claim that writes: a new record, an expired one that starts over, or the abandoned attempt that
-- is taken over. No row comes back when the record is in use: then it is read.
--
-- ?1 key, ?2 fingerprint, ?3 token, ?4 operation, ?5 now, ?6 end of the lease, ?7 expiry, ?8 when to purge it,
-- ?9 attempt to take over, ?10 label, ?11 progress
INSERT INTO main.{table} (record_key, fingerprint, token, operation, label, progress, state, attempt, created_at, lease_until, expires_at, purge_at)
VALUES (?1, ?2, ?3, ?4, ?10, ?11, 'running', 1, ?5, ?6, ?7, ?8)
ON CONFLICT (record_key) DO UPDATE SET
    fingerprint = excluded.fingerprint,
    token        = excluded.token,
    operation    = iif(expires_at <= ?5, excluded.operation, operation),
    label        = iif(expires_at <= ?5, excluded.label, label),
    state        = excluded.state,
    attempt      = iif(expires_at <= ?5, 1, attempt + 1),
    created_at   = iif(expires_at <= ?5, ?5, created_at),
    lease_until  = excluded.lease_until,
    expires_at   = excluded.expires_at,
    purge_at     = excluded.purge_at,
    status_code  = NULL,
    response     = NULL,
    progress     = iif(expires_at <= ?5, excluded.progress, progress)
WHERE expires_at <= ?5
    -- A token that holds the claim already takes nothing over: it asks a second time. A record that was
    -- abandoned by its owner has none.
    OR (state = 'running' AND fingerprint = ?2 AND token IS NOT ?3 AND lease_until <= ?5 AND attempt = ?9)
RETURNING attempt, created_at
