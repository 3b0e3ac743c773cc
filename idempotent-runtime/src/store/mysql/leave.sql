-- Back to what the connection was; {key} is digits.
SET autocommit = 1; DO RELEASE_LOCK(LEFT(SHA2(CONCAT_WS(' ', DATABASE(), '{table}', UPPER('{key}')), 256), 60))
