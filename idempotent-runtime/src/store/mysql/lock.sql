-- Records of many claims, to be written by the same session. One that a statement or an open transaction
-- of somebody else has locked is skipped, and delays none of the others.
SELECT record_key, token, state
FROM {records} FORCE INDEX (PRIMARY)
WHERE record_key IN ({keys}) AND expires_at > UTC_TIMESTAMP(6)
FOR UPDATE SKIP LOCKED
