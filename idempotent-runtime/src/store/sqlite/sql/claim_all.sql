-- claim.sql for many at once, of which none takes over: new records, and expired ones that start over.
-- Nothing is written where a record is in use.
--
-- {rows}: key, fingerprint, token, operation, label, progress, now, end of the lease, expiry, when to purge it. The last rows
-- may be NULL, so that one statement serves for several numbers of claims.
INSERT INTO main.{table} (record_key, fingerprint, token, operation, label, progress, state, attempt, created_at, lease_until, expires_at, purge_at)
SELECT column1, column2, column3, column4, column5, column6, 'running', 1, column7, column8, column9, column10
FROM (VALUES {rows})
WHERE column1 IS NOT NULL
ON CONFLICT (record_key) DO UPDATE SET
    fingerprint = excluded.fingerprint,
    token        = excluded.token,
    operation    = excluded.operation,
    label        = excluded.label,
    state        = excluded.state,
    attempt      = 1,
    created_at   = excluded.created_at,
    lease_until  = excluded.lease_until,
    expires_at   = excluded.expires_at,
    purge_at     = excluded.purge_at,
    status_code  = NULL,
    response     = NULL,
    progress     = excluded.progress
WHERE expires_at <= excluded.created_at
