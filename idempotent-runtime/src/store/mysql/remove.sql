-- Whatever its state: for operators.
DELETE FROM {table}
WHERE record_key = ?
