-- The savepoint between what this store has prepared and what the handler writes, and what the session
-- is like before the handler: its role, the most bytes in a packet, and its state. {counters} is counters.sql, where there is
-- a record that can be missed.
SELECT CURRENT_ROLE(), CAST(@@max_allowed_packet AS UNSIGNED), {session}; {counters}SAVEPOINT idempotent_handler
