-- What the scripts begin with that write for the owner of a running claim: `record` is its record,
-- which is this token's. Straight on, because a function would be made anew at each call.
--
-- ARGV: token
local record = redis.pcall('GET', KEYS[1])
if not record then
  return { ok = 'LOST' }
end
if type(record) == 'table' then
  return record
end
local state = string.sub(record, 70, 70)
if string.byte(record) ~= 1 or (state ~= 'r' and state ~= 'w' and state ~= 'c') then
  return { err = 'CORRUPT the value is no record' }
end
if string.sub(record, 34, 49) ~= ARGV[1] then
  return { ok = 'LOST' }
end

