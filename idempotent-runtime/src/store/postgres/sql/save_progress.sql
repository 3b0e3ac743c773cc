SELECT outcome, stored_bytes FROM {schema}."{table}_save_progress"($1, $2, $3, $4)
