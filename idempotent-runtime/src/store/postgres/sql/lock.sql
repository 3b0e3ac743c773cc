-- A procedure of ours, because it has nothing to be planned: the server plans a message of the simple protocol
-- each time, and each function in it that it does not know yet costs more than the lock.
--
-- {idle_ms} for the first lock of a transaction, and NULL for the others.
CALL {schema}."{table}_lock"({lock}, {idle_ms});
