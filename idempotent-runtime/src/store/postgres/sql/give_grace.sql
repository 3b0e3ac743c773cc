-- One last lease for the owner of an abandoned claim, unless that owner has abandoned it.
--
-- $1 key, $2 attempt, $3 grace and $4 retention in microseconds
UPDATE {schema}."{table}"
SET lease_until = clock_timestamp() + $3::float8 * interval '1 microsecond',
    expires_at = clock_timestamp() + $3::float8 * interval '1 microsecond' + $4::float8 * interval '1 microsecond' -- heap-only
WHERE record_key = $1 AND attempt = $2 AND state = 1 AND token IS NOT NULL
    AND lease_until <= clock_timestamp() AND expires_at > clock_timestamp()
RETURNING 1
