-- Stores the response of a running claim, also after its lease, and drops its progress; the record's
-- expiry stays.
--
-- ARGV: token, response, anything if nobody is to be told
if state == 'c' then
  return { ok = 'MINE' }
end
local completed = string.sub(record, 1, 69) .. 'c' .. ARGV[2]
local stored = redis.pcall('SET', KEYS[1], completed, 'KEEPTTL')
if stored.err then
  -- Redis 5 has no KEEPTTL. Any other reason to refuse is told by this one too.
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then
    stored = redis.pcall('SET', KEYS[1], completed)
  else
    stored = redis.pcall('SET', KEYS[1], completed, 'PX', math.max(left, 1))
  end
end
-- A hint: a server that forbids publishing must not fail what was written before.
if state == 'w' and stored.ok and not ARGV[3] then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -65) .. 'done', string.sub(KEYS[1], -64))
end
return stored
