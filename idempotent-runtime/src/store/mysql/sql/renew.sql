-- Of records that this session has locked and found to be their owners', with leases of one length.
UPDATE {records} FORCE INDEX (PRIMARY)
SET lease_until = UTC_TIMESTAMP(6) + INTERVAL {lease} MICROSECOND,
    expires_at = UTC_TIMESTAMP(6) + INTERVAL {life} MICROSECOND
WHERE record_key IN ({keys})
