-- One last lease for the owner of an abandoned claim, unless that owner has abandoned it.
UPDATE {records}
SET lease_until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND,
    expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE record_key = ?
    AND attempt = ?
    AND state = 1
    AND token IS NOT NULL
    AND lease_until <= UTC_TIMESTAMP(6)
    AND expires_at > UTC_TIMESTAMP(6)
