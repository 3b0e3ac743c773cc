-- Answers with a record and how long it lives yet, by the server's clock; the caller's does not matter.
local record = redis.pcall('GET', KEYS[1])
if not record or type(record) == 'table' then
  return record
end
return { record, redis.call('PTTL', KEYS[1]) }
