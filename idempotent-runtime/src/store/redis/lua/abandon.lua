-- Ends the lease of a running claim now, and takes the token from its record: no attempt holds it any more.
-- Attempt, names, progress and expiry stay.
--
-- ARGV: token, anything if no waiter is to be told
if state == 'c' then
  return { ok = 'LOST' }
end
local life, lease = struct.unpack('>dd', head, 54)
if left < 0 or not (life >= 0 and life <= 9007199254740992 and lease >= 0 and lease <= life) then
  return { err = 'CORRUPT the record does not expire, or has a field that is not a number' }
end
lease = math.min(lease, math.max(life - left, 0))
local abandoned = redis.pcall('SETRANGE', KEYS[1], 33,
  string.rep('\0', 16) .. string.sub(head, 50, 61) .. struct.pack('>d', lease) .. 'a')
if type(abandoned) == 'table' then
  return abandoned
end
if state == 'w' and not ARGV[2] then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -65) .. 'done', string.sub(KEYS[1], -64))
end
return { ok = 'OK' }
