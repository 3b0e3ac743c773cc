-- The next attempt of an abandoned record. All that the decision rests on is asked again under the
-- row's lock: that it is the claim that was read (token, attempt), that its request is this one,
-- that it still runs, that its lease has ended and its life has not.
UPDATE {records}
SET token = ?,
    attempt = ?,
    lease_until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND,
    expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE record_key = ?
    AND fingerprint = ?
    AND token <=> ?
    AND attempt = ?
    AND state = 1
    AND lease_until <= UTC_TIMESTAMP(6)
    AND expires_at > UTC_TIMESTAMP(6)
