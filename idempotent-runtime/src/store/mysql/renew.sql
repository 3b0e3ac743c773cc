-- Many claims of one length of lease. {owners} is `record_key = ? AND token = ?`, joined by OR: each
-- is one look at the primary key, in the order of the keys, so that two renewals lock in one order.
UPDATE {table}
SET expires_at = GREATEST(expires_at, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND),
    lease_until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
WHERE ({owners}) AND state = 1 AND expires_at > UTC_TIMESTAMP(6)
