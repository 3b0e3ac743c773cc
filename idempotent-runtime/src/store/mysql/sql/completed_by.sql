-- Whose record it is and how it stands, without the response: asked when a completion matched no row, and for the fate
-- of a transaction. The latest version and not that of a snapshot, once no transaction has it locked.
SELECT state
FROM {records}
WHERE record_key = ? AND token = ? AND expires_at > UTC_TIMESTAMP(6)
FOR UPDATE
