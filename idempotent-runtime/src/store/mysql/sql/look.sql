-- The records that could not be locked, without a lock: locked or gone?
SELECT record_key, token, state
FROM {records} FORCE INDEX (PRIMARY)
WHERE record_key IN ({keys}) AND expires_at > UTC_TIMESTAMP(6)
