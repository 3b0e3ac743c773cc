-- The first claim. Of many at once the primary key lets one in, the others get error 1062.
-- Never INSERT IGNORE (it turns errors into wrong data), never ON DUPLICATE KEY UPDATE (every
-- replay would lock and write).
INSERT INTO {records}
    (record_key, fingerprint, token, operation, label, progress, state, attempt, created_at, lease_until, expires_at)
VALUES (
    ?, ?, ?, ?, ?, ?, 1, 1,
    UTC_TIMESTAMP(6),
    UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND,
    UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
)
