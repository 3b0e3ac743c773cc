-- Stores the response of a running claim, also after its lease, and drops its progress; the record's
-- expiry stays.
--
-- ARGV: token, response, anything if nobody is to be told
if state == 'c' then
  return { ok = 'MINE' }
end
-- A long response comes after as many zeros as the head has bytes. Here it would be put together byte
-- by byte, with the server standing still; no response begins with a zero.
local has_room = string.byte(ARGV[2]) == 0
local completed = ARGV[2]
if not has_room then
  completed = string.sub(record, 1, 69) .. 'c' .. completed
end
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
if has_room and stored.ok then
  redis.call('SETRANGE', KEYS[1], 0, string.sub(record, 1, 69) .. 'c')
end
-- A hint: a server that forbids publishing must not fail what was written before.
if state == 'w' and stored.ok and not ARGV[3] then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -65) .. 'done', string.sub(KEYS[1], -64))
end
return stored
