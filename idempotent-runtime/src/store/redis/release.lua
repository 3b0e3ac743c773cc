-- Removes the record of a running claim, also after its lease: the key is free.
--
-- ARGV: token, channel ('': none)
local key = KEYS[1]
local record, damage = read(key, clock())
if damage then
  return damage
end
if not record or record.token ~= ARGV[1] or record.state ~= 'running' then
  return { 'lost' }
end
redis.call('DEL', key)
changed(key, ARGV[2])
return { 'released' }
