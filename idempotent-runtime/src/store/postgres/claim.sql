SELECT outcome, attempt_number, age_us, lease_left_us, answer
FROM "{table}_claim"($1, $2, $3, $4, $5, $6)
