-- The savepoint between what this store has prepared and what the handler writes, and what the session
-- is like before the handler: its role, the most bytes in a packet, and its state.
SELECT CURRENT_ROLE(), CAST(@@max_allowed_packet AS UNSIGNED), {session}; SAVEPOINT idempotent_handler
