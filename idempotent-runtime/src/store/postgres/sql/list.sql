-- So many records in the order of their keys, expired ones too, without their responses: which of them are
-- listed is decided by their reader. {which} is `state = 1 AND`, for which there is an index, or nothing.
--
-- $1 the key after which to begin, $2 how many
SELECT record_key, operation, label, state, attempt,
    (extract(epoch FROM statement_timestamp() - created_at) * 1e6)::bigint AS age_us,
    (extract(epoch FROM lease_until - statement_timestamp()) * 1e6)::bigint AS lease_left_us,
    (extract(epoch FROM expires_at - statement_timestamp()) * 1e6)::bigint AS expires_in_us,
    coalesce(octet_length(response), octet_length(progress), 0)::bigint AS size_bytes
FROM {schema}."{table}"
WHERE {which} record_key > $1 AND octet_length(record_key) = 32
ORDER BY record_key
LIMIT $2
