-- Whatever its state: for operators.
DELETE FROM {records}
WHERE record_key = ?
