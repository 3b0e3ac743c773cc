-- Sets the lease of a running claim to end its own length from now, also when it has ended already, and
-- the record to outlive it by its retention.
--
-- ARGV: token or attempt, lease, and lease and retention together, in milliseconds
if state == 'c' then
  return { ok = 'LOST' }
end
local life = struct.unpack('>d', head, 54)
if left < 0 or not (life >= 0 and life <= 9007199254740992) then
  return { err = 'CORRUPT the record does not expire, or has a field that is not a number' }
end
-- Zero, if another client has extended the key's life.
local age = math.max(life - left, 0)
-- First the expiry, which a server over `maxmemory` lets pass. After a script's first write it lets pass
-- the others too, and these make nothing longer: a server that is full must not end leases.
local renewed = redis.pcall('PEXPIRE', KEYS[1], ARGV[3])
if type(renewed) == 'table' then
  return renewed
end
renewed = redis.pcall('SETRANGE', KEYS[1], 53,
  struct.pack('>dd', age + tonumber(ARGV[3]), age + tonumber(ARGV[2])))
if type(renewed) == 'table' then
  redis.call('PEXPIRE', KEYS[1], math.max(left, 1))
  return renewed
end
return { ok = 'OK' }
