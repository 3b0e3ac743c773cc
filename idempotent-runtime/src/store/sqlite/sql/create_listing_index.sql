-- For operators, who list what is not completed, in the order of the keys.
CREATE INDEX IF NOT EXISTS main.{table}_uncompleted ON {table} (record_key) WHERE state = 'running'
