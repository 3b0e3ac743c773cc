-- Stores the response of a running claim, also after its lease, and drops its progress; the record's
-- expiry stays.
--
-- ARGV: token, response, channel ('': none)
local key = KEYS[1]
local record, damage = read(key, clock())
if damage then
  return damage
end
if not record or record.token ~= ARGV[1] then
  return { 'lost' }
end
if record.state == 'completed' then
  return { 'already mine' }
end
redis.call('HSET', key, 'state', 'completed', 'response', ARGV[2])
-- Not before: a server over `maxmemory` lets everything pass after a script's first write.
redis.call('HDEL', key, 'progress')
changed(key, ARGV[3])
return { 'stored' }
