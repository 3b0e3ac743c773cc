-- Of records that this session has locked. By their keys and no other way: a scan would wait for rows
-- that it does not delete.
DELETE records FROM {records} AS records FORCE INDEX (PRIMARY)
WHERE record_key IN ({keys})
