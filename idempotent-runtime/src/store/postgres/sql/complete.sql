SELECT outcome FROM {schema}."{table}_complete"($1, $2, $3, $4, $5)
