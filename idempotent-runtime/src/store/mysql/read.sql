-- One row at one moment: a consistent read, which locks nothing and waits for nobody.
-- UTC_TIMESTAMP is the same throughout a statement. {progress} is `progress`, or `NULL` for who does
-- not ask for it and need not read its pages.
SELECT
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at),
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), lease_until),
    TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)),
    request_hash,
    state,
    token,
    attempt,
    response,
    {progress}
FROM {table}
WHERE record_key = ?
