-- Sent behind BEGIN, as one message of the simple protocol: one round trip. {lock} and {key} are
-- digits.
--
-- The lock goes with the transaction, however that ends. It is taken before the record is looked for,
-- so that who has it sees what the last one who had it has committed: under READ COMMITTED each
-- statement has a snapshot of its own. (Under a stricter level the snapshot can be older than the
-- lock. Then the primary key decides, and who comes second has done its work in vain.)
SELECT pg_try_advisory_xact_lock({lock}) AS is_ours,
    (extract(epoch FROM transaction_timestamp()) * 1e6)::bigint AS begun_us;
-- A row that is there counts whoever has the lock. Only a claim without a transaction leaves one
-- that runs. In the text format bytes are what `bytea_output` says, unless they are text already.
SELECT E'\\x' || encode(request_hash, 'hex') AS request_hash, state,
    E'\\x' || encode(response, 'hex') AS response,
    (extract(epoch FROM lease_until - clock_timestamp()) * 1e6)::bigint AS lease_left_us
FROM "{table}"
WHERE key = decode('{key}', 'hex') AND expires_at > clock_timestamp();
-- What the handler writes is undone up to here when it answers with an error. The lock is older, so
-- it stays.
SAVEPOINT idempotent_handler
