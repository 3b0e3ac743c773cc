-- A claim that writes: a new record, an expired one that starts over, or the abandoned attempt that
-- is taken over. No row comes back when the record is somebody's: then it is read.
--
-- ?1 key, ?2 request hash, ?3 token, ?4 now, ?5 end of the lease, ?6 expiry, ?7 attempt to take over
INSERT INTO {table} (key, request_hash, token, state, attempt, created_at, lease_until, expires_at)
VALUES (?1, ?2, ?3, 'running', 1, ?4, ?5, ?6)
ON CONFLICT (key) DO UPDATE SET
    request_hash = excluded.request_hash,
    token        = excluded.token,
    state        = excluded.state,
    attempt      = iif(expires_at <= ?4, 1, attempt + 1),
    created_at   = iif(expires_at <= ?4, ?4, created_at),
    lease_until  = excluded.lease_until,
    expires_at   = excluded.expires_at,
    status_code  = NULL,
    response     = NULL,
    progress     = iif(expires_at <= ?4, NULL, progress)
WHERE expires_at <= ?4
    -- A token that holds the claim already takes nothing over: it asks a second time.
    OR (state = 'running' AND request_hash = ?2 AND token <> ?3 AND lease_until <= ?4 AND attempt = ?7)
RETURNING attempt, created_at
