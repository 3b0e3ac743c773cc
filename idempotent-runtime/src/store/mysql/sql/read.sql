-- One row at one moment: a consistent read, which locks nothing and waits for no lock.
-- UTC_TIMESTAMP is the same throughout a statement. {details} are `progress, operation, label`, or `NULL, NULL, NULL`
-- for callers that do not ask for them and need not read their pages. FORCE INDEX: a table without its primary key, with which
-- each claim of one key would be acquired, is refused.
SELECT
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at),
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), lease_until),
    TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)),
    fingerprint,
    state,
    token,
    attempt,
    response,
    {details}
FROM {records} FORCE INDEX (PRIMARY)
WHERE record_key = ?
