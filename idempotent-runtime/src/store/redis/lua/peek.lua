-- Answers with what is listed of a record, its head and its names, how long it lives yet, and how long it is.
-- Not the whole record, which may hold a long response.
local length = redis.pcall('GETRANGE', KEYS[1], 70, 71)
if type(length) == 'table' then
  return length
end
if #length < 2 then
  return { redis.call('GETRANGE', KEYS[1], 0, 73), redis.call('PTTL', KEYS[1]), redis.call('STRLEN', KEYS[1]) }
end
local names = struct.unpack('>I2', length)
return { redis.call('GETRANGE', KEYS[1], 0, 73 + names), redis.call('PTTL', KEYS[1]), redis.call('STRLEN', KEYS[1]) }
