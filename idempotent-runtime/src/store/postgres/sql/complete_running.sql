-- The completion of a running claim of this token that no caller waits for, as nearly all are. Where there is no such
-- claim, nothing is written, and complete.sql decides.
--
-- $1 key, $2 token, $3 status code, $4 response, $5 TTL in microseconds
UPDATE {schema}."{table}"
SET state = 2, status_code = $3, response = $4, progress = NULL,
    expires_at = clock_timestamp() + $5::float8 * interval '1 microsecond',
    purge_at = clock_timestamp() + $5::float8 * interval '1 microsecond'
WHERE record_key = $1 AND token = $2 AND state = 1 AND NOT waited AND expires_at > clock_timestamp()
