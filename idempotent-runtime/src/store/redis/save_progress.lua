-- Keeps how far a running claim has got, also after its lease. What is kept only grows: bytes that
-- are not longer are an earlier call that was late.
--
-- ARGV: token, progress
local key = KEYS[1]
local record, damage = read(key, clock())
if damage then
  return damage
end
if not record or record.token ~= ARGV[1] or record.state ~= 'running' then
  return { 'lost' }
end
if #ARGV[2] > redis.call('HSTRLEN', key, 'progress') then
  redis.call('HSET', key, 'progress', ARGV[2])
end
return { 'saved' }
