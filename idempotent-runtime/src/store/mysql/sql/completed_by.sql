-- Whose record it is and how it stands, without the response: asked only when a completion matched
-- no row. As the completion saw it: the latest version, not the one of a snapshot.
SELECT state
FROM {records}
WHERE record_key = ? AND token = ? AND expires_at > UTC_TIMESTAMP(6)
FOR UPDATE
