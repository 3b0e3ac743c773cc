SELECT is_running FROM "{table}_wait"($1)
