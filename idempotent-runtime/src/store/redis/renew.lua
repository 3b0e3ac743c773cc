-- Sets the lease of a running claim to end its own length from now, also when it has ended already.
-- The record lives at least as long as its lease.
--
-- ARGV: token, lease in milliseconds
if state == 'c' then
  return { ok = 'LOST' }
end
local left = redis.call('PTTL', KEYS[1])
local life = struct.unpack('>d', record, 54)
if left < 0 or not (life >= 0 and life <= 9007199254740992) then
  return { err = 'CORRUPT the record does not expire, or a number is none' }
end
-- Of no age, if somebody has had the key live longer.
local lease = math.max(life - left, 0) + tonumber(ARGV[2])
local renewed
if lease > life then
  renewed = redis.pcall('SETRANGE', KEYS[1], 53, struct.pack('>dd', lease, lease))
  if type(renewed) ~= 'table' then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
else
  renewed = redis.pcall('SETRANGE', KEYS[1], 61, struct.pack('>d', lease))
end
if type(renewed) == 'table' then
  return renewed
end
return { ok = 'OK' }
