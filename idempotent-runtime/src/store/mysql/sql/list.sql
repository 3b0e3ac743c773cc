-- So many records in the order of their keys, expired ones too, without their responses: which of them are
-- listed is decided by their reader. {which} is `FORCE INDEX ({table}_state) WHERE state = 1 AND`, or
-- `FORCE INDEX (PRIMARY) WHERE`. {size} is the bytes of the response or of the progress, or 0: the server reads all of a
-- long response to know how long it is.
SELECT
    record_key,
    state,
    attempt,
    TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)),
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), lease_until),
    TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at),
    operation,
    label,
    {size}
FROM {records} {which} record_key > ?
ORDER BY record_key
LIMIT ?
