SELECT outcome, attempt_number, age_us, lease_left_us, answer
FROM {schema}."{table}_claim"($1, $2, $3, $4, $5, $6, $7, $8, $9)
