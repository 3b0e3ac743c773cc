-- Of records that this session has locked and found to be their owners'. Without a token no owner can
-- write to it any more, however late; its attempt, its progress and its expiry stay.
UPDATE {records} FORCE INDEX (PRIMARY)
SET token = NULL, lease_until = LEAST(lease_until, UTC_TIMESTAMP(6))
WHERE record_key IN ({keys})
