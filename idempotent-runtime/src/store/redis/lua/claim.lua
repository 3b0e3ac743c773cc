-- Becomes the one who runs if there is no record; otherwise answers with the record and how long it
-- lives yet, and changes nothing.
--
-- ARGV: the record to be, for how long it lives in milliseconds
local record = redis.pcall('GET', KEYS[1])
if not record then
  return redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if type(record) == 'table' then
  return record
end
return { record, redis.call('PTTL', KEYS[1]) }
