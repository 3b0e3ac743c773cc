-- How many statements of each kind this session has run. Where the record is gone, those that commit tell whether the
-- handler has committed something since: nothing else in a session does. They need no right.
SHOW SESSION STATUS LIKE 'Com%'
