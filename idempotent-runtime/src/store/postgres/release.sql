DELETE FROM "{table}"
WHERE key = $1 AND token = $2 AND state = 1 AND expires_at > clock_timestamp()
