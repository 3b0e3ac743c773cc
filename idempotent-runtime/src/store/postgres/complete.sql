SELECT outcome FROM "{table}_complete"($1, $2, $3, $4)
