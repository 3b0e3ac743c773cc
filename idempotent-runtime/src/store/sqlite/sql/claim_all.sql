-- New records and expired ones that start over, many at once. Where a record is somebody's nothing is
-- written; nobody is taken over.
--
-- ?1 now; {rows}: key, request hash, token, end of the lease, expiry. The last rows may be NULL, so
-- that one statement serves for several numbers of claims.
INSERT INTO {table} (key, request_hash, token, state, attempt, created_at, lease_until, expires_at)
SELECT column1, column2, column3, 'running', 1, ?1, column4, column5
FROM (VALUES {rows})
WHERE column1 IS NOT NULL
ON CONFLICT (key) DO UPDATE SET
    request_hash = excluded.request_hash,
    token        = excluded.token,
    state        = excluded.state,
    attempt      = 1,
    created_at   = excluded.created_at,
    lease_until  = excluded.lease_until,
    expires_at   = excluded.expires_at,
    status_code  = NULL,
    response     = NULL,
    progress     = NULL
WHERE expires_at <= ?1
