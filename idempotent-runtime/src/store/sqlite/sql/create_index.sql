-- For the sweeper alone. It goes by `purge_at`, because `expires_at` changes with each renewal and with the
-- completion, and what an index is made of has to be written there as well.
CREATE INDEX IF NOT EXISTS main.{table}_purge_at ON {table} (purge_at)
