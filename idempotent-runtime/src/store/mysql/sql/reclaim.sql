-- The first claim where an expired record was not swept yet. Expired is all there is to know about
-- it, and the statement knows it under the row's lock: of many at once the first moves the expiry
-- and the others match no row.
UPDATE {records}
SET fingerprint = ?,
    token = ?,
    operation = ?,
    label = ?,
    progress = ?,
    state = 1,
    attempt = 1,
    status_code = NULL,
    response = NULL,
    created_at = UTC_TIMESTAMP(6),
    lease_until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND,
    expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE record_key = ? AND expires_at <= UTC_TIMESTAMP(6)
