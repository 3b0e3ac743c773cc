-- Records of many claims, to be written by the same session. One that a statement or an open transaction
-- of another session has locked delays none of the others: `SKIP LOCKED` is added for more than one.
SELECT record_key, token, state
FROM {records} FORCE INDEX (PRIMARY)
WHERE record_key IN ({keys}) AND expires_at > UTC_TIMESTAMP(6)
FOR UPDATE