-- For the sweeper alone.
CREATE INDEX IF NOT EXISTS {table}_expires_at ON {table} (expires_at)
