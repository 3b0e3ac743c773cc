-- Sets the lease of a running claim to end its own length from now, also when it has ended already.
-- The record lives at least as long as its lease.
--
-- ARGV: token, lease in milliseconds
local key = KEYS[1]
local now = clock()
local record, damage = read(key, now)
if damage then
  return damage
end
if not record or record.token ~= ARGV[1] or record.state ~= 'running' then
  return { 'lost' }
end
local lease_until = now + tonumber(ARGV[2])
redis.call('HSET', key, 'lease_until', digits(lease_until))
if lease_until > record.expires_at then
  redis.call('HSET', key, 'expires_at', digits(lease_until))
  redis.call('PEXPIREAT', key, digits(lease_until))
end
return { 'renewed' }
