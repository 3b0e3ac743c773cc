-- So many records in the order of their keys, expired ones too, without their responses: which of them are
-- listed is decided by their reader. {which} is `state = 1 AND`, for which there is an index, or nothing.
--
-- $1 the key after which to begin, $2 how many
SELECT record_key, operation, label, state, attempt,
    (date_part('epoch', statement_timestamp() - created_at) * 1e6::float8)::bigint AS age_us,
    (date_part('epoch', lease_until - statement_timestamp()) * 1e6::float8)::bigint AS lease_left_us,
    (date_part('epoch', expires_at - statement_timestamp()) * 1e6::float8)::bigint AS expires_in_us,
    coalesce(octet_length(response), octet_length(progress), 0)::bigint AS size_bytes
FROM {schema}."{table}"
WHERE {which} record_key > $1 AND octet_length(record_key) = 32
ORDER BY record_key
LIMIT $2
