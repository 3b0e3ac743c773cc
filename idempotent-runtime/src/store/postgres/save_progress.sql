SELECT outcome FROM "{table}_save_progress"($1, $2, $3)
