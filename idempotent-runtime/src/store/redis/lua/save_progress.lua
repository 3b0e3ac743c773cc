-- Appends to how far a running claim has got, also after its lease. What is stored never changes: bytes
-- that are there already are an earlier call that was late. If what is stored ends before the offset, the
-- answer is its length.
--
-- ARGV: token, offset, progress from there on
if state == 'c' then
  return { ok = 'LOST' }
end
local length = redis.call('STRLEN', KEYS[1])
local stored = length - struct.unpack('>I2', head, 73)
if stored < 0 then
  return { err = 'CORRUPT the record is cut off' }
end
local known = stored - tonumber(ARGV[2])
if known < 0 then
  return stored
end
if known < #ARGV[3] then
  local saved = redis.pcall('SETRANGE', KEYS[1], length, string.sub(ARGV[3], known + 1))
  if type(saved) == 'table' then
    -- There is no code for a value over `proto-max-bulk-len`, which is a mebibyte at the least.
    if string.sub(saved.err, 1, 4) == 'ERR ' and length + #ARGV[3] > 1048576 then
      return { err = 'TOOLARGE the record would be longer than the server takes' }
    end
    return saved
  end
end
return { ok = 'OK' }
