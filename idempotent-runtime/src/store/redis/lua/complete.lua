-- Stores the response of a running claim, also after its lease, drops its progress, and has the record
-- expire its TTL from now.
--
-- ARGV: token, TTL in milliseconds, response, anything if no waiter is to be told
if state == 'c' then
  return { ok = 'MINE' }
end
local age, life = 0, struct.unpack('>d', head, 54)
if life >= 0 and life <= 9007199254740992 then
  age = math.max(life - math.max(left, 0), 0)
end
local length = struct.unpack('>I2', head, 71)
local names = string.sub(head, 75, 74 + length)
if length > 64 then
  names = redis.call('GETRANGE', KEYS[1], 74, 73 + length)
end
-- A long response comes after as many zeros as there is room for the head and the names. Here it
-- would be put together byte by byte, with the server standing still; no response begins with a zero.
local response, start = ARGV[3], 74 + length
local has_room = string.byte(response) == 0
if has_room and length <= 64 then
  start = 138
elseif has_room then
  response, has_room = string.sub(response, 139), false
end
local completed = string.sub(head, 1, 53) .. struct.pack('>dd', age + tonumber(ARGV[2]), age)
  .. 'c' .. struct.pack('>I2I2', length, start) .. names
local stored
if has_room then
  -- Changes nothing. A user may be allowed one of the commands and not the other: the record is not left without its head.
  stored = redis.pcall('SETRANGE', KEYS[1], 0, string.sub(head, 1, 1))
  if type(stored) == 'table' then
    return stored
  end
  stored = redis.pcall('SET', KEYS[1], response, 'PX', ARGV[2])
  if stored.ok then
    redis.call('SETRANGE', KEYS[1], 0, completed)
  end
else
  stored = redis.pcall('SET', KEYS[1], completed .. response, 'PX', ARGV[2])
end
-- A notification may be lost: a server that forbids publishing must not fail what was written before.
if state == 'w' and stored.ok and not ARGV[4] then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -65) .. 'done', string.sub(KEYS[1], -64))
end
return stored
