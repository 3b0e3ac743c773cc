DELETE FROM {schema}."{table}" WHERE key = $1 RETURNING 1
