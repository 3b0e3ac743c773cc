SELECT is_running FROM {schema}."{table}_wait"($1)
