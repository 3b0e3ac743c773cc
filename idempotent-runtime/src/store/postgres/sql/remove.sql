DELETE FROM {schema}."{table}" WHERE record_key = $1 RETURNING 1
