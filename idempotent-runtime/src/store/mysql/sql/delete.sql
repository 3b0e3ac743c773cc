-- Of a record that this session has locked. One at a time: of several the server may choose to scan the
-- table, and would wait for rows that it does not delete.
DELETE FROM {records}
WHERE record_key = {key}
